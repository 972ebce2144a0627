target triple = "x86_64-unknown-linux-gnu"

define hidden void @init(ptr %vmctx) #0 {
  %1 = getelementptr i8, ptr %vmctx, i64 -16
  %2 = load ptr, ptr %1, !invariant.load !4
  %3 = getelementptr i8, ptr %2, i64 32
  %4 = load ptr, ptr %3, !invariant.load !4
  notail call void %4(ptr %vmctx, i32 1, i32 0, i64 1, i64 0, i64 3)
  %5 = getelementptr i8, ptr %vmctx, i64 -96
  store i64 0, ptr %5
  ret void
}

define hidden i32 @f0(ptr %vmctx, i32 %p0) #0 !dbg !8 {
  %v0 = alloca i32
  %memory1.at = getelementptr i8, ptr %vmctx, i64 -72
  %memory1 = load ptr, ptr %memory1.at, !invariant.load !4
  %memory2.at = getelementptr i8, ptr %vmctx, i64 -80
  %memory2 = load ptr, ptr %memory2.at, !invariant.load !4
  store i32 %p0, ptr %v0
  %1 = zext i32 %p0 to i64
  %2 = getelementptr i8, ptr %memory1, i64 %1
  %3 = getelementptr i8, ptr %2, i64 4
  %4 = load volatile i32, ptr %3, align 1, !dbg !DILocation(line: 6, scope: !8)
  %5 = zext i32 %p0 to i64
  %6 = getelementptr i8, ptr %vmctx, i64 %5
  store volatile i32 %4, ptr %6, align 1, !dbg !DILocation(line: 10, scope: !8)
  %7 = zext i32 %p0 to i64
  %8 = add i64 %7, 3
  %9 = getelementptr i8, ptr %memory2, i64 -8
  %10 = load i64, ptr %9
  %11 = icmp ule i64 %8, %10
  br i1 %11, label %c12, label %t12, !prof !3
c12:
  %13 = zext i32 %p0 to i64
  %14 = getelementptr i8, ptr %memory2, i64 %13
  %15 = getelementptr i8, ptr %14, i64 2
  %16 = trunc i32 1 to i8
  store volatile i8 %16, ptr %15, align 1, !dbg !DILocation(line: 17, scope: !8)
  %17 = getelementptr i8, ptr %14, i64 1
  %18 = trunc i32 1 to i16
  store volatile i16 %18, ptr %17, align 1, !dbg !DILocation(line: 25, scope: !8)
  %19 = zext i32 %p0 to i64
  %20 = getelementptr i8, ptr %vmctx, i64 -16
  %21 = load ptr, ptr %20, !invariant.load !4
  %22 = getelementptr i8, ptr %21, i64 16
  %23 = load ptr, ptr %22, !invariant.load !4
  notail call void %23(ptr %vmctx, i32 2, i32 1, i64 %19, i64 1, i64 2), !dbg !DILocation(line: 35, scope: !8)
  %24 = getelementptr i8, ptr %vmctx, i64 -16
  %25 = load ptr, ptr %24, !invariant.load !4
  %26 = getelementptr i8, ptr %25, i64 8
  %27 = load ptr, ptr %26, !invariant.load !4
  %28 = notail call i64 %27(ptr %vmctx, i32 1, i64 1), !dbg !DILocation(line: 41, scope: !8)
  %29 = trunc i64 %28 to i32
  %30 = getelementptr i8, ptr %memory2, i64 -8
  %31 = load i64, ptr %30
  %32 = trunc i64 %31 to i32
  %33 = add i32 %29, %32
  ret i32 %33
t12:
  call void @llvm.ubsantrap(i8 5) #1, !dbg !DILocation(line: 17, scope: !8)
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
