target triple = "x86_64-unknown-linux-gnu"

define hidden i64 @f0(ptr %vmctx, i32 %p0) #0 !dbg !8 {
  %v0 = alloca i32
  store i32 %p0, ptr %v0
  %1 = zext i32 %p0 to i64
  %2 = getelementptr i8, ptr %vmctx, i64 %1
  %3 = load volatile i16, ptr %2, align 1, !dbg !DILocation(line: 6, scope: !8)
  %4 = sext i16 %3 to i32, !dbg !DILocation(line: 6, scope: !8)
  %5 = getelementptr i8, ptr %2, i64 3
  %6 = trunc i32 %4 to i8, !dbg !DILocation(line: 6, scope: !8)
  store volatile i8 %6, ptr %5, align 1, !dbg !DILocation(line: 9, scope: !8)
  %7 = getelementptr i8, ptr %vmctx, i64 8
  store volatile float bitcast (i32 2141192192 to float), ptr %7, align 1, !dbg !DILocation(line: 19, scope: !8)
  %8 = zext i32 %p0 to i64
  %9 = add i64 %8, 268435460
  %10 = getelementptr i8, ptr %vmctx, i64 -8
  %11 = load i64, ptr %10
  %12 = icmp ule i64 %9, %11
  br i1 %12, label %c13, label %t13, !prof !3
c13:
  %14 = getelementptr i8, ptr %2, i64 268435456
  %15 = load volatile i32, ptr %14, align 1, !dbg !DILocation(line: 24, scope: !8)
  %16 = zext i32 %15 to i64, !dbg !DILocation(line: 24, scope: !8)
  ret i64 %16
t13:
  call void @llvm.ubsantrap(i8 5) #1, !dbg !DILocation(line: 24, scope: !8)
  unreachable
}

define hidden i32 @f1(ptr %vmctx, i32 %p0) #0 !dbg !9 {
  %v0 = alloca i32
  store i32 %p0, ptr %v0
  %1 = zext i32 %p0 to i64
  %2 = getelementptr i8, ptr %vmctx, i64 -16
  %3 = load ptr, ptr %2, !invariant.load !4
  %4 = getelementptr i8, ptr %3, i64 16
  %5 = load ptr, ptr %4, !invariant.load !4
  notail call void %5(ptr %vmctx, i32 0, i32 0, i64 %1, i64 1, i64 4294967294), !dbg !DILocation(line: 8, scope: !9)
  %6 = zext i32 %p0 to i64
  %7 = getelementptr i8, ptr %vmctx, i64 -16
  %8 = load ptr, ptr %7, !invariant.load !4
  %9 = getelementptr i8, ptr %8, i64 24
  %10 = load ptr, ptr %9, !invariant.load !4
  notail call void %10(ptr %vmctx, i32 0, i64 %6, i32 1, i64 2), !dbg !DILocation(line: 18, scope: !9)
  %11 = zext i32 %p0 to i64
  %12 = getelementptr i8, ptr %vmctx, i64 -16
  %13 = load ptr, ptr %12, !invariant.load !4
  %14 = getelementptr i8, ptr %13, i64 32
  %15 = load ptr, ptr %14, !invariant.load !4
  notail call void %15(ptr %vmctx, i32 0, i32 0, i64 %11, i64 1, i64 2), !dbg !DILocation(line: 27, scope: !9)
  %16 = getelementptr i8, ptr %vmctx, i64 -80
  store i64 0, ptr %16
  %17 = getelementptr i8, ptr %vmctx, i64 -16
  %18 = load ptr, ptr %17, !invariant.load !4
  %19 = getelementptr i8, ptr %18, i64 8
  %20 = load ptr, ptr %19, !invariant.load !4
  %21 = notail call i64 %20(ptr %vmctx, i32 0, i64 1), !dbg !DILocation(line: 36, scope: !9)
  %22 = trunc i64 %21 to i32
  %23 = getelementptr i8, ptr %vmctx, i64 -8
  %24 = load i64, ptr %23
  %25 = lshr i64 %24, 16
  %26 = trunc i64 %25 to i32
  %27 = add i32 %22, %26
  ret i32 %27
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
