target triple = "x86_64-unknown-linux-gnu"

define hidden i64 @f0(ptr %vmctx, i64 %p0) #0 !dbg !8 {
  %v0 = alloca i64
  store i64 %p0, ptr %v0
  %1 = getelementptr i8, ptr %vmctx, i64 -8
  %2 = load i64, ptr %1
  %3 = icmp ult i64 %p0, %2
  br i1 %3, label %c4, label %t4, !prof !3
c4:
  %5 = getelementptr i8, ptr %vmctx, i64 %p0
  %6 = load volatile i16, ptr %5, align 1, !dbg !DILocation(line: 6, scope: !8)
  %7 = sext i16 %6 to i32, !dbg !DILocation(line: 6, scope: !8)
  %8 = getelementptr i8, ptr %5, i64 3
  %9 = trunc i32 %7 to i8, !dbg !DILocation(line: 6, scope: !8)
  store volatile i8 %9, ptr %8, align 1, !dbg !DILocation(line: 9, scope: !8)
  %10 = getelementptr i8, ptr %vmctx, i64 -8
  %11 = load i64, ptr %10
  %12 = icmp ult i64 -8, %11
  br i1 %12, label %c13, label %t13, !prof !3
c13:
  %14 = getelementptr i8, ptr %vmctx, i64 18446744073709551608
  store volatile i64 1, ptr %14, align 1, !dbg !DILocation(line: 16, scope: !8)
  %15 = getelementptr i8, ptr %vmctx, i64 -8
  %16 = load i64, ptr %15
  %17 = call i64 @llvm.usub.sat.i64(i64 %16, i64 268435459)
  %18 = icmp ult i64 %p0, %17
  br i1 %18, label %c19, label %t19, !prof !3
c19:
  %20 = getelementptr i8, ptr %5, i64 268435456
  %21 = load volatile i32, ptr %20, align 1, !dbg !DILocation(line: 21, scope: !8)
  %22 = zext i32 %21 to i64, !dbg !DILocation(line: 21, scope: !8)
  br i1 false, label %c23, label %t23, !prof !3
c23:
  %24 = getelementptr i8, ptr %5, i64 9223372036854775808
  %25 = load volatile i64, ptr %24, align 1, !dbg !DILocation(line: 30, scope: !8)
  %26 = add i64 %22, %25, !dbg !DILocation(line: 30, scope: !8)
  ret i64 %26
t4:
  call void @llvm.ubsantrap(i8 5) #1, !dbg !DILocation(line: 6, scope: !8)
  unreachable
t13:
  call void @llvm.ubsantrap(i8 5) #1, !dbg !DILocation(line: 16, scope: !8)
  unreachable
t19:
  call void @llvm.ubsantrap(i8 5) #1, !dbg !DILocation(line: 21, scope: !8)
  unreachable
t23:
  call void @llvm.ubsantrap(i8 5) #1, !dbg !DILocation(line: 30, scope: !8)
  unreachable
}

define hidden i64 @f1(ptr %vmctx, i64 %p0) #0 !dbg !9 {
  %v0 = alloca i64
  %table0.at = getelementptr i8, ptr %vmctx, i64 -72
  %table0 = load ptr, ptr %table0.at, !invariant.load !4
  store i64 %p0, ptr %v0
  %1 = getelementptr i8, ptr %vmctx, i64 -16
  %2 = load ptr, ptr %1, !invariant.load !4
  %3 = getelementptr i8, ptr %2, i64 16
  %4 = load ptr, ptr %3, !invariant.load !4
  notail call void %4(ptr %vmctx, i32 0, i32 0, i64 %p0, i64 1, i64 -2), !dbg !DILocation(line: 8, scope: !9)
  %5 = getelementptr i8, ptr %vmctx, i64 -16
  %6 = load ptr, ptr %5, !invariant.load !4
  %7 = getelementptr i8, ptr %6, i64 24
  %8 = load ptr, ptr %7, !invariant.load !4
  notail call void %8(ptr %vmctx, i32 0, i64 %p0, i32 1, i64 2), !dbg !DILocation(line: 18, scope: !9)
  %9 = getelementptr i8, ptr %table0, i64 8
  %10 = load i64, ptr %9
  %11 = icmp ult i64 %p0, %10
  br i1 %11, label %c12, label %t12, !prof !3
c12:
  %13 = getelementptr i8, ptr %table0, i64 0
  %14 = load ptr, ptr %13
  %15 = getelementptr ptr, ptr %14, i64 %p0
  store volatile ptr null, ptr %15
  %16 = getelementptr i8, ptr %vmctx, i64 -16
  %17 = load ptr, ptr %16, !invariant.load !4
  %18 = getelementptr i8, ptr %17, i64 8
  %19 = load ptr, ptr %18, !invariant.load !4
  %20 = notail call i64 %19(ptr %vmctx, i32 0, i64 1), !dbg !DILocation(line: 29, scope: !9)
  %21 = getelementptr i8, ptr %vmctx, i64 -8
  %22 = load i64, ptr %21
  %23 = lshr i64 %22, 16
  %24 = add i64 %20, %23
  %25 = getelementptr i8, ptr %table0, i64 8
  %26 = load i64, ptr %25
  %27 = add i64 %24, %26
  ret i64 %27
t12:
  call void @llvm.ubsantrap(i8 6) #1, !dbg !DILocation(line: 25, scope: !9)
  unreachable
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
