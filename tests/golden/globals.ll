target triple = "x86_64-unknown-linux-gnu"

define hidden void @e0(ptr %vmctx, ptr %code, ptr %slots) #0 {
  notail call void %code(ptr %vmctx)
  ret void
}

define hidden void @init(ptr %vmctx) #0 {
  %1 = getelementptr i8, ptr %vmctx, i64 -152
  %2 = getelementptr i8, ptr %vmctx, i64 -88
  store ptr %1, ptr %2
  %3 = getelementptr i8, ptr %vmctx, i64 -104
  %4 = load i32, ptr %3, !invariant.load !4
  %5 = add i32 %4, 3
  %6 = getelementptr i8, ptr %vmctx, i64 -96
  store i32 %5, ptr %6
  ret void
}

define hidden void @f0(ptr %vmctx) #0 !dbg !8 {
  ret void
}

define hidden i32 @f1(ptr %vmctx) #0 !dbg !9 {
  %1 = getelementptr i8, ptr %vmctx, i64 -104
  %2 = load i32, ptr %1, !invariant.load !4
  %3 = zext i32 %2 to i64
  %4 = getelementptr i8, ptr %vmctx, i64 -112
  %5 = load ptr, ptr %4, !invariant.load !4
  store volatile i64 %3, ptr %5
  %6 = call double @llvm.arithmetic.fence.f64(double 0x3FF0000000000000)
  %7 = fptrunc double %6 to float
  %8 = call float @llvm.arithmetic.fence.f32(float %7)
  %9 = getelementptr i8, ptr %vmctx, i64 -72
  store float %8, ptr %9
  %10 = getelementptr i8, ptr %vmctx, i64 -88
  %11 = load ptr, ptr %10
  %12 = icmp eq ptr %11, null
  %13 = zext i1 %12 to i32
  %14 = getelementptr i8, ptr %vmctx, i64 -96
  store volatile i32 %13, ptr %14
  %15 = getelementptr i8, ptr %vmctx, i64 -96
  %16 = load i32, ptr %15
  ret i32 %16
}


attributes #0 = { noinline nounwind uwtable "probe-stack"="inline-asm" "no-builtins" }
attributes #2 = { noinline uwtable "probe-stack"="inline-asm" "no-builtins" }
attributes #1 = { nomerge noreturn nounwind }

!llvm.dbg.cu = !{!0}
!llvm.module.flags = !{!5, !6}
!0 = distinct !DICompileUnit(language: DW_LANG_C11, file: !1, emissionKind: LineTablesOnly)
!1 = !DIFile(filename: "module.wasm", directory: "")
!2 = !DISubroutineType(types: !{})
!3 = !{!"branch_weights", i32 1048575, i32 1}
!4 = !{}
!5 = !{i32 7, !"Dwarf Version", i32 4}
!6 = !{i32 2, !"Debug Info Version", i32 3}
!8 = distinct !DISubprogram(name: "f0", scope: !1, file: !1, line: 1, type: !2, spFlags: DISPFlagDefinition, unit: !0)
!9 = distinct !DISubprogram(name: "f1", scope: !1, file: !1, line: 1, type: !2, spFlags: DISPFlagDefinition, unit: !0)
