target triple = "x86_64-unknown-linux-gnu"

define hidden void @e0(ptr %vmctx, ptr %code, ptr %slots) #0 {
  notail call void %code(ptr %vmctx)
  ret void
}

define hidden void @init(ptr %vmctx) #0 {
  %1 = getelementptr i8, ptr %vmctx, i64 -72
  %2 = load i32, ptr %1, !invariant.load !4
  %3 = zext i32 %2 to i64
  %4 = getelementptr i8, ptr %vmctx, i64 -16
  %5 = load ptr, ptr %4, !invariant.load !4
  %6 = getelementptr i8, ptr %5, i64 64
  %7 = load ptr, ptr %6, !invariant.load !4
  notail call void %7(ptr %vmctx, i32 0, i32 0, i64 %3, i64 0, i64 1)
  %8 = getelementptr i8, ptr %vmctx, i64 -96
  store i64 0, ptr %8
  ret void
}

define hidden void @f0(ptr %vmctx) #0 !dbg !8 {
  ret void
}

define hidden void @f1(ptr %vmctx, i32 %p0) #0 !dbg !9 {
  %v0 = alloca i32
  %table0.at = getelementptr i8, ptr %vmctx, i64 -80
  %table0 = load ptr, ptr %table0.at, !invariant.load !4
  store i32 %p0, ptr %v0
  %1 = getelementptr i8, ptr %table0, i64 8
  %2 = load i64, ptr %1
  %3 = icmp ult i64 1, %2
  br i1 %3, label %c4, label %t4, !prof !3
c4:
  %5 = getelementptr i8, ptr %table0, i64 0
  %6 = load ptr, ptr %5
  %7 = getelementptr ptr, ptr %6, i64 1
  %8 = load ptr, ptr %7
  %9 = zext i32 %p0 to i64
  %10 = getelementptr i8, ptr %table0, i64 8
  %11 = load i64, ptr %10
  %12 = icmp ult i64 %9, %11
  br i1 %12, label %c13, label %t13, !prof !3
c13:
  %14 = getelementptr i8, ptr %table0, i64 0
  %15 = load ptr, ptr %14
  %16 = getelementptr ptr, ptr %15, i64 %9
  store volatile ptr %8, ptr %16
  %17 = getelementptr i8, ptr %vmctx, i64 -144
  %18 = getelementptr i8, ptr %table0, i64 8
  %19 = load i64, ptr %18
  %20 = trunc i64 %19 to i32
  %21 = zext i32 %20 to i64
  %22 = getelementptr i8, ptr %vmctx, i64 -16
  %23 = load ptr, ptr %22, !invariant.load !4
  %24 = getelementptr i8, ptr %23, i64 40
  %25 = load ptr, ptr %24, !invariant.load !4
  %26 = notail call i64 %25(ptr %vmctx, i32 0, i64 %21, ptr %17), !dbg !DILocation(line: 15, scope: !9)
  %27 = trunc i64 %26 to i32
  %28 = zext i32 %p0 to i64
  %29 = getelementptr i8, ptr %vmctx, i64 -16
  %30 = load ptr, ptr %29, !invariant.load !4
  %31 = getelementptr i8, ptr %30, i64 56
  %32 = load ptr, ptr %31, !invariant.load !4
  notail call void %32(ptr %vmctx, i32 0, i64 %28, ptr null, i64 2), !dbg !DILocation(line: 25, scope: !9)
  %33 = zext i32 %p0 to i64
  %34 = getelementptr i8, ptr %vmctx, i64 -16
  %35 = load ptr, ptr %34, !invariant.load !4
  %36 = getelementptr i8, ptr %35, i64 48
  %37 = load ptr, ptr %36, !invariant.load !4
  notail call void %37(ptr %vmctx, i32 0, i32 0, i64 %33, i64 1, i64 2), !dbg !DILocation(line: 34, scope: !9)
  %38 = zext i32 %p0 to i64
  %39 = getelementptr i8, ptr %vmctx, i64 -16
  %40 = load ptr, ptr %39, !invariant.load !4
  %41 = getelementptr i8, ptr %40, i64 64
  %42 = load ptr, ptr %41, !invariant.load !4
  notail call void %42(ptr %vmctx, i32 0, i32 1, i64 %38, i64 0, i64 2), !dbg !DILocation(line: 44, scope: !9)
  %43 = getelementptr i8, ptr %vmctx, i64 -104
  store i64 0, ptr %43
  ret void
t4:
  call void @llvm.ubsantrap(i8 6) #1, !dbg !DILocation(line: 6, scope: !9)
  unreachable
t13:
  call void @llvm.ubsantrap(i8 6) #1, !dbg !DILocation(line: 8, scope: !9)
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
