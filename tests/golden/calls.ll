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

define hidden i32 @j0(ptr %vmctx, i32 %p0) #0 {
  %1 = getelementptr i8, ptr %vmctx, i64 -80
  %2 = load ptr, ptr %1, !invariant.load !4
  %3 = getelementptr i8, ptr %vmctx, i64 -72
  %4 = load ptr, ptr %3, !invariant.load !4
  %5 = notail call i32 %2(ptr %4, i32 %p0)
  ret i32 %5
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

define hidden void @e3(ptr %vmctx, ptr %code, ptr %slots) #0 {
  notail call void %code(ptr %vmctx)
  ret void
}

define hidden i32 @f1(ptr %vmctx, i32 %p0) #0 !dbg !9 {
  %v0 = alloca i32
  store i32 %p0, ptr %v0
  %1 = getelementptr i8, ptr %vmctx, i64 -80
  %2 = load ptr, ptr %1, !invariant.load !4
  %3 = getelementptr i8, ptr %vmctx, i64 -72
  %4 = load ptr, ptr %3, !invariant.load !4
  %5 = notail call i32 %2(ptr %4, i32 %p0), !dbg !DILocation(line: 4, scope: !9)
  ret i32 %5
}

define hidden { i64, double } @f2(ptr %vmctx) #0 !dbg !10 {
  %1 = call double @llvm.arithmetic.fence.f64(double 0x4004000000000000)
  %2 = insertvalue { i64, double } poison, i64 1, 0
  %3 = insertvalue { i64, double } %2, double %1, 1
  ret { i64, double } %3
}

define hidden void @f3(ptr %vmctx, ptr %results) #0 !dbg !11 {
  %1 = call float @llvm.arithmetic.fence.f32(float 0x4004000000000000)
  %2 = getelementptr i8, ptr %results, i64 0
  store i32 1, ptr %2
  %3 = getelementptr i8, ptr %results, i64 8
  store float %1, ptr %3
  %4 = getelementptr i8, ptr %results, i64 16
  store i32 3, ptr %4
  ret void
}

define hidden void @f4(ptr %vmctx) #0 !dbg !12 {
  %results3 = alloca [3 x i64], align 8
  %1 = notail call { i64, double } @f2(ptr %vmctx), !dbg !DILocation(line: 2, scope: !12)
  %2 = extractvalue { i64, double } %1, 0
  %3 = extractvalue { i64, double } %1, 1
  notail call void @f3(ptr %vmctx, ptr %results3), !dbg !DILocation(line: 6, scope: !12)
  %4 = getelementptr i8, ptr %results3, i64 0
  %5 = load i32, ptr %4
  %6 = getelementptr i8, ptr %results3, i64 8
  %7 = load float, ptr %6
  %8 = getelementptr i8, ptr %results3, i64 16
  %9 = load i32, ptr %8
  %10 = notail call i32 @f1(ptr %vmctx, i32 4), !dbg !DILocation(line: 13, scope: !12)
  ret void
}

define hidden i32 @f5(ptr %vmctx, i32 %p0) #0 !dbg !13 {
  %v0 = alloca i32
  store i32 %p0, ptr %v0
  %1 = icmp ult i32 %p0, 3
  br i1 %1, label %c2, label %t2, !prof !3
c2:
  %3 = zext i32 %p0 to i64
  %4 = getelementptr i64, ptr @table0, i64 %3
  %5 = load i32, ptr %4, !invariant.load !4
  %6 = icmp eq i32 %5, 1
  br i1 %6, label %c7, label %m7, !prof !3
c7:
  %8 = getelementptr i8, ptr %4, i64 4
  %9 = load i32, ptr %8, !invariant.load !4
  %10 = sext i32 %9 to i64
  %11 = getelementptr i8, ptr @table0, i64 %10
  %12 = notail call i32 %11(ptr %vmctx, i32 5), !dbg !DILocation(line: 6, scope: !13)
  ret i32 %12
t2:
  call void @llvm.ubsantrap(i8 7) #1, !dbg !DILocation(line: 6, scope: !13)
  unreachable
m7:
  %z7 = icmp eq i32 %5, 0
  br i1 %z7, label %u7, label %t7
u7:
  call void @llvm.ubsantrap(i8 8) #1, !dbg !DILocation(line: 6, scope: !13)
  unreachable
t7:
  call void @llvm.ubsantrap(i8 9) #1, !dbg !DILocation(line: 6, scope: !13)
  unreachable
}

define hidden i32 @f6(ptr %vmctx, i32 %p0) #0 !dbg !14 {
  %v0 = alloca i32
  %table1.at = getelementptr i8, ptr %vmctx, i64 -88
  %table1 = load ptr, ptr %table1.at, !invariant.load !4
  store i32 %p0, ptr %v0
  %1 = zext i32 %p0 to i64
  %2 = getelementptr i8, ptr %table1, i64 8
  %3 = load i64, ptr %2
  %4 = icmp ult i64 %1, %3
  br i1 %4, label %c5, label %t5, !prof !3
c5:
  %6 = getelementptr i8, ptr %table1, i64 0
  %7 = load ptr, ptr %6
  %8 = getelementptr ptr, ptr %7, i64 %1
  %9 = load ptr, ptr %8
  %10 = icmp ne ptr %9, null
  br i1 %10, label %c11, label %t11, !prof !3
c11:
  %12 = getelementptr i8, ptr %9, i64 16
  %13 = load i64, ptr %12, !dbg !DILocation(line: 6, scope: !14)
  %14 = icmp eq i64 %13, 1816074257911974371
  br i1 %14, label %c15, label %t15, !prof !3
c15:
  %16 = getelementptr i8, ptr %9, i64 0
  %17 = load ptr, ptr %16, !dbg !DILocation(line: 6, scope: !14)
  %18 = getelementptr i8, ptr %9, i64 8
  %19 = load ptr, ptr %18, !dbg !DILocation(line: 6, scope: !14)
  %20 = notail call i32 %17(ptr %19, i32 5), !dbg !DILocation(line: 6, scope: !14)
  ret i32 %20
t5:
  call void @llvm.ubsantrap(i8 7) #1, !dbg !DILocation(line: 6, scope: !14)
  unreachable
t11:
  call void @llvm.ubsantrap(i8 8) #1, !dbg !DILocation(line: 6, scope: !14)
  unreachable
t15:
  call void @llvm.ubsantrap(i8 9) #1, !dbg !DILocation(line: 6, scope: !14)
  unreachable
}

@table0 = external hidden constant [3 x i64], align 8
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
!9 = distinct !DISubprogram(name: "f1", scope: !1, file: !1, line: 1, type: !2, spFlags: DISPFlagDefinition, unit: !0)
!10 = distinct !DISubprogram(name: "f2", scope: !1, file: !1, line: 1, type: !2, spFlags: DISPFlagDefinition, unit: !0)
!11 = distinct !DISubprogram(name: "f3", scope: !1, file: !1, line: 1, type: !2, spFlags: DISPFlagDefinition, unit: !0)
!12 = distinct !DISubprogram(name: "f4", scope: !1, file: !1, line: 1, type: !2, spFlags: DISPFlagDefinition, unit: !0)
!13 = distinct !DISubprogram(name: "f5", scope: !1, file: !1, line: 1, type: !2, spFlags: DISPFlagDefinition, unit: !0)
!14 = distinct !DISubprogram(name: "f6", scope: !1, file: !1, line: 1, type: !2, spFlags: DISPFlagDefinition, unit: !0)
