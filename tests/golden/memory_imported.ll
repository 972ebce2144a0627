target triple = "x86_64-unknown-linux-gnu"

define hidden void @init(ptr %vmctx) #0 {
  %1 = getelementptr i8, ptr %vmctx, i64 -16
  %2 = load ptr, ptr %1, !invariant.load !4
  %3 = getelementptr i8, ptr %2, i64 32
  %4 = load ptr, ptr %3, !invariant.load !4
  notail call void %4(ptr %vmctx, i32 0, i32 0, i64 4, i64 0, i64 3)
  %5 = getelementptr i8, ptr %vmctx, i64 -88
  store i64 0, ptr %5
  ret void
}

define hidden i32 @f0(ptr %vmctx, i32 %p0) #0 !dbg !8 {
  %v0 = alloca i32
  %memory0.at = getelementptr i8, ptr %vmctx, i64 -72
  %memory0 = load ptr, ptr %memory0.at, !invariant.load !4
  store i32 %p0, ptr %v0
  %1 = getelementptr i8, ptr %memory0, i64 -8
  %2 = load i64, ptr %1
  %3 = lshr i64 %2, 16
  %4 = trunc i64 %3 to i32
  %5 = zext i32 %p0 to i64
  %6 = getelementptr i8, ptr %memory0, i64 %5
  %7 = getelementptr i8, ptr %6, i64 4
  store volatile i32 %4, ptr %7, align 1, !dbg !DILocation(line: 6, scope: !8)
  %8 = getelementptr i8, ptr %memory0, i64 16
  %9 = load volatile i32, ptr %8, align 1, !dbg !DILocation(line: 11, scope: !8)
  ret i32 %9
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
