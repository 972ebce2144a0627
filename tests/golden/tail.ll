target triple = "x86_64-unknown-linux-gnu"

define hidden i32 @f0(ptr %vmctx, i32 %p0) #0 {
  %slots = alloca [1 x i64], align 8
  %1 = zext i32 %p0 to i64
  %2 = getelementptr i8, ptr %slots, i64 0
  store i64 %1, ptr %2
  %3 = getelementptr i8, ptr %vmctx, i64 -16
  %4 = load ptr, ptr %3, !invariant.load !4
  %5 = getelementptr i8, ptr %4, i64 0
  %6 = load ptr, ptr %5, !invariant.load !4
  notail call void %6(ptr %vmctx, i32 0, ptr %slots)
  %7 = getelementptr i8, ptr %slots, i64 0
  %8 = load i32, ptr %7
  ret i32 %8
}

define weak hidden tailcc i32 @j0(ptr %vmctx, i32 %p0) #0 {
  %1 = getelementptr i8, ptr %vmctx, i64 -80
  %2 = load ptr, ptr %1, !invariant.load !4
  %3 = getelementptr i8, ptr %vmctx, i64 -72
  %4 = load ptr, ptr %3, !invariant.load !4
  %5 = notail call i32 %2(ptr %4, i32 %p0)
  ret i32 %5
}

define hidden i32 @f1(ptr %vmctx, i32 %p0) #0 {
  %1 = notail call tailcc i32 @t1(ptr %vmctx, i32 %p0)
  ret i32 %1
}

define hidden void @e0(ptr %vmctx, ptr %code, ptr %slots) #0 {
  %1 = getelementptr i8, ptr %slots, i64 0
  %2 = load i32, ptr %1
  %3 = notail call i32 %code(ptr %vmctx, i32 %2)
  %4 = zext i32 %3 to i64
  %5 = getelementptr i8, ptr %slots, i64 0
  store i64 %4, ptr %5
  ret void
}

define weak hidden tailcc i32 @t1(ptr %vmctx, i32 %p0) #0 !dbg !9 {
  %v0 = alloca i32
  store i32 %p0, ptr %v0
  %1 = tail call tailcc i32 @t2(ptr %vmctx, i32 %p0), !dbg !DILocation(line: 4, scope: !9)
  ret i32 %1
}

define weak hidden tailcc i32 @t2(ptr %vmctx, i32 %p0) #0 !dbg !10 {
  %v0 = alloca i32
  store i32 %p0, ptr %v0
  %1 = icmp ult i32 1, 2
  br i1 %1, label %c2, label %t2, !prof !3
c2:
  %3 = getelementptr i64, ptr @table0, i64 1
  %4 = load i32, ptr %3, !invariant.load !4
  %5 = icmp eq i32 %4, 1
  br i1 %5, label %c6, label %m6, !prof !3
c6:
  %7 = getelementptr i8, ptr %3, i64 4
  %8 = load i32, ptr %7, !invariant.load !4
  %9 = sext i32 %8 to i64
  %10 = getelementptr i8, ptr @table0, i64 %9
  %11 = tail call tailcc i32 %10(ptr %vmctx, i32 %p0), !dbg !DILocation(line: 6, scope: !10)
  ret i32 %11
t2:
  call void @llvm.ubsantrap(i8 7) #1, !dbg !DILocation(line: 6, scope: !10)
  unreachable
m6:
  %z6 = icmp eq i32 %4, 0
  br i1 %z6, label %u6, label %t6
u6:
  call void @llvm.ubsantrap(i8 8) #1, !dbg !DILocation(line: 6, scope: !10)
  unreachable
t6:
  call void @llvm.ubsantrap(i8 9) #1, !dbg !DILocation(line: 6, scope: !10)
  unreachable
}

define weak hidden tailcc i32 @t3(ptr %vmctx, i32 %p0) #0 !dbg !11 {
  %v0 = alloca i32
  %s0.0.i32 = alloca i32
  %table1.at = getelementptr i8, ptr %vmctx, i64 -88
  %table1 = load ptr, ptr %table1.at, !invariant.load !4
  store i32 %p0, ptr %v0
  %1 = notail call tailcc i32 @t2(ptr %vmctx, i32 %p0), !dbg !DILocation(line: 4, scope: !11)
  %2 = getelementptr i8, ptr %table1, i64 8
  %3 = load i64, ptr %2
  %4 = icmp ult i64 1, %3
  br i1 %4, label %c5, label %t5, !prof !3
c5:
  %6 = getelementptr i8, ptr %table1, i64 0
  %7 = load ptr, ptr %6
  %8 = getelementptr ptr, ptr %7, i64 1
  %9 = load ptr, ptr %8
  %10 = icmp ne ptr %9, null
  br i1 %10, label %c11, label %t11, !prof !3
c11:
  %12 = getelementptr i8, ptr %9, i64 16
  %13 = load i64, ptr %12, !dbg !DILocation(line: 8, scope: !11)
  %14 = icmp eq i64 %13, 1816074257911974371
  br i1 %14, label %c15, label %t15, !prof !3
c15:
  %16 = getelementptr i8, ptr %9, i64 8
  %17 = load ptr, ptr %16, !dbg !DILocation(line: 8, scope: !11)
  %18 = getelementptr i8, ptr %9, i64 32
  %19 = load ptr, ptr %18, !dbg !DILocation(line: 8, scope: !11)
  %20 = icmp eq ptr %17, %vmctx
  %21 = icmp ne ptr %19, null
  %22 = and i1 %20, %21
  br i1 %22, label %j23, label %o23
j23:
  %24 = tail call tailcc i32 %19(ptr %vmctx, i32 %1), !dbg !DILocation(line: 8, scope: !11)
  ret i32 %24
o23:
  %25 = getelementptr i8, ptr %9, i64 0
  %26 = load ptr, ptr %25, !dbg !DILocation(line: 8, scope: !11)
  %27 = notail call i32 %26(ptr %17, i32 %1), !dbg !DILocation(line: 8, scope: !11)
  store i32 %27, ptr %s0.0.i32
  br label %return
return:
  %28 = load i32, ptr %s0.0.i32
  ret i32 %28
t5:
  call void @llvm.ubsantrap(i8 7) #1, !dbg !DILocation(line: 8, scope: !11)
  unreachable
t11:
  call void @llvm.ubsantrap(i8 8) #1, !dbg !DILocation(line: 8, scope: !11)
  unreachable
t15:
  call void @llvm.ubsantrap(i8 9) #1, !dbg !DILocation(line: 8, scope: !11)
  unreachable
}

define weak hidden tailcc i32 @t4(ptr %vmctx, i32 %p0) #0 !dbg !12 {
  %v0 = alloca i32
  %s0.0.i32 = alloca i32
  store i32 %p0, ptr %v0
  %1 = getelementptr i8, ptr %vmctx, i64 -80
  %2 = load ptr, ptr %1, !invariant.load !4
  %3 = getelementptr i8, ptr %vmctx, i64 -72
  %4 = load ptr, ptr %3, !invariant.load !4
  %5 = notail call i32 %2(ptr %4, i32 %p0), !dbg !DILocation(line: 4, scope: !12)
  store i32 %5, ptr %s0.0.i32
  br label %return
return:
  %6 = load i32, ptr %s0.0.i32
  ret i32 %6
}

define weak hidden tailcc void @t5(ptr %vmctx, ptr %results) #0 !dbg !13 {
  tail call tailcc void @t5(ptr %vmctx, ptr %results), !dbg !DILocation(line: 2, scope: !13)
  ret void
}

@table0 = external hidden constant [2 x i64], align 8
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
!9 = distinct !DISubprogram(name: "t1", scope: !1, file: !1, line: 1, type: !2, spFlags: DISPFlagDefinition, unit: !0)
!10 = distinct !DISubprogram(name: "t2", scope: !1, file: !1, line: 1, type: !2, spFlags: DISPFlagDefinition, unit: !0)
!11 = distinct !DISubprogram(name: "t3", scope: !1, file: !1, line: 1, type: !2, spFlags: DISPFlagDefinition, unit: !0)
!12 = distinct !DISubprogram(name: "t4", scope: !1, file: !1, line: 1, type: !2, spFlags: DISPFlagDefinition, unit: !0)
!13 = distinct !DISubprogram(name: "t5", scope: !1, file: !1, line: 1, type: !2, spFlags: DISPFlagDefinition, unit: !0)
