target triple = "x86_64-unknown-linux-gnu"

define hidden { i64, i64 } @f0(ptr %vmctx, i64 %p0, i64 %p1, i64 %p2, i64 %p3) #0 !dbg !8 {
  %v0 = alloca i64
  %v1 = alloca i64
  %v2 = alloca i64
  %v3 = alloca i64
  store i64 %p0, ptr %v0
  store i64 %p1, ptr %v1
  store i64 %p2, ptr %v2
  store i64 %p3, ptr %v3
  %1 = zext i64 %p3 to i128
  %2 = zext i64 %p2 to i128
  %3 = shl i128 %1, 64
  %4 = or i128 %3, %2
  %5 = zext i64 %p1 to i128
  %6 = zext i64 %p0 to i128
  %7 = shl i128 %5, 64
  %8 = or i128 %7, %6
  %9 = add i128 %8, %4
  %10 = trunc i128 %9 to i64
  %11 = lshr i128 %9, 64
  %12 = trunc i128 %11 to i64
  %13 = insertvalue { i64, i64 } poison, i64 %10, 0
  %14 = insertvalue { i64, i64 } %13, i64 %12, 1
  ret { i64, i64 } %14
}

define hidden { i64, i64 } @f1(ptr %vmctx, i64 %p0, i64 %p1) #0 !dbg !9 {
  %v0 = alloca i64
  %v1 = alloca i64
  store i64 %p0, ptr %v0
  store i64 %p1, ptr %v1
  %1 = sext i64 %p1 to i128
  %2 = sext i64 %p0 to i128
  %3 = mul i128 %2, %1
  %4 = trunc i128 %3 to i64
  %5 = lshr i128 %3, 64
  %6 = trunc i128 %5 to i64
  %7 = insertvalue { i64, i64 } poison, i64 %4, 0
  %8 = insertvalue { i64, i64 } %7, i64 %6, 1
  ret { i64, i64 } %8
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
