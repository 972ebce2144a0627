target triple = "x86_64-unknown-linux-gnu"

define hidden i64 @f0(ptr %vmctx, i32 %p0, i64 %p1) #0 !dbg !8 {
  %v0 = alloca i32
  %v1 = alloca i64
  %memory0.at = getelementptr i8, ptr %vmctx, i64 -72
  %memory0 = load ptr, ptr %memory0.at, !invariant.load !4
  %memory1.at = getelementptr i8, ptr %vmctx, i64 -80
  %memory1 = load ptr, ptr %memory1.at, !invariant.load !4
  store i32 %p0, ptr %v0
  store i64 %p1, ptr %v1
  %1 = getelementptr i8, ptr %memory0, i64 -8
  %2 = load atomic i64, ptr %1 seq_cst, align 8
  %3 = lshr i64 %2, 16
  %4 = trunc i64 %3 to i32
  %5 = zext i32 %p0 to i64
  %6 = getelementptr i8, ptr %memory0, i64 %5
  store volatile i32 %4, ptr %6, align 1, !dbg !DILocation(line: 6, scope: !8)
  %7 = add i64 %p1, 0
  %8 = and i64 %7, 7
  %9 = icmp eq i64 %8, 0
  br i1 %9, label %c10, label %t10, !prof !3
c10:
  %11 = getelementptr i8, ptr %memory1, i64 -8
  %12 = load atomic i64, ptr %11 seq_cst, align 8
  %13 = icmp ult i64 %p1, %12
  br i1 %13, label %c14, label %t14, !prof !3
c14:
  %15 = getelementptr i8, ptr %memory1, i64 %p1
  %16 = load atomic volatile i64, ptr %15 seq_cst, align 8, !dbg !DILocation(line: 13, scope: !8)
  %17 = add i32 %p0, 0
  %18 = and i32 %17, 1
  %19 = icmp eq i32 %18, 0
  br i1 %19, label %c20, label %t20, !prof !3
c20:
  %21 = getelementptr i8, ptr %6, i64 2
  %22 = trunc i64 %16 to i16
  store atomic volatile i16 %22, ptr %21 seq_cst, align 2, !dbg !DILocation(line: 18, scope: !8)
  fence seq_cst
  %23 = trunc i32 300 to i8
  %24 = atomicrmw volatile xchg ptr %6, i8 %23 seq_cst, align 1, !dbg !DILocation(line: 30, scope: !8)
  %25 = zext i8 %24 to i32
  %26 = add i32 %p0, 1
  %27 = and i32 %26, 3
  %28 = icmp eq i32 %27, 0
  br i1 %28, label %c29, label %t29, !prof !3
c29:
  %30 = getelementptr i8, ptr %6, i64 5
  %31 = trunc i64 %p1 to i32
  %32 = trunc i64 7 to i32
  %33 = cmpxchg volatile ptr %30, i32 %31, i32 %32 seq_cst seq_cst, align 4, !dbg !DILocation(line: 41, scope: !8)
  %34 = extractvalue { i32, i1 } %33, 0
  %35 = zext i32 %34 to i64
  ret i64 %35
t10:
  call void @llvm.ubsantrap(i8 13) #1, !dbg !DILocation(line: 13, scope: !8)
  unreachable
t14:
  call void @llvm.ubsantrap(i8 5) #1, !dbg !DILocation(line: 13, scope: !8)
  unreachable
t20:
  call void @llvm.ubsantrap(i8 13) #1, !dbg !DILocation(line: 18, scope: !8)
  unreachable
t29:
  call void @llvm.ubsantrap(i8 13) #1, !dbg !DILocation(line: 41, scope: !8)
  unreachable
}

define hidden i32 @f1(ptr %vmctx, i32 %p0, i64 %p1) #0 !dbg !9 {
  %v0 = alloca i32
  %v1 = alloca i64
  store i32 %p0, ptr %v0
  store i64 %p1, ptr %v1
  %1 = zext i32 %p0 to i64
  %2 = getelementptr i8, ptr %vmctx, i64 -16
  %3 = load ptr, ptr %2, !invariant.load !4
  %4 = getelementptr i8, ptr %3, i64 96
  %5 = load ptr, ptr %4, !invariant.load !4
  %6 = notail call i32 %5(ptr %vmctx, i32 0, i64 %1, i64 4, i32 1, i64 %p1), !dbg !DILocation(line: 8, scope: !9)
  %7 = getelementptr i8, ptr %vmctx, i64 -16
  %8 = load ptr, ptr %7, !invariant.load !4
  %9 = getelementptr i8, ptr %8, i64 104
  %10 = load ptr, ptr %9, !invariant.load !4
  %11 = notail call i32 %10(ptr %vmctx, i32 1, i64 %p1, i64 0, i64 %p1, i64 -1), !dbg !DILocation(line: 19, scope: !9)
  %12 = zext i32 %p0 to i64
  %13 = getelementptr i8, ptr %vmctx, i64 -16
  %14 = load ptr, ptr %13, !invariant.load !4
  %15 = getelementptr i8, ptr %14, i64 112
  %16 = load ptr, ptr %15, !invariant.load !4
  %17 = notail call i32 %16(ptr %vmctx, i32 0, i64 %12, i64 0, i32 1), !dbg !DILocation(line: 29, scope: !9)
  ret i32 %17
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
