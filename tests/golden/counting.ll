target triple = "x86_64-unknown-linux-gnu"

define hidden void @e0(ptr %vmctx, ptr %code, ptr %slots) #0 {
  %1 = getelementptr i8, ptr %slots, i64 0
  %2 = load i32, ptr %1
  %3 = notail call i32 %code(ptr %vmctx, i32 %2)
  %4 = zext i32 %3 to i64
  %5 = getelementptr i8, ptr %slots, i64 0
  store i64 %4, ptr %5
  ret void
}

define hidden void @e2(ptr %vmctx, ptr %code, ptr %slots) #0 {
  %1 = getelementptr i8, ptr %slots, i64 0
  %2 = load i32, ptr %1
  %3 = getelementptr i8, ptr %slots, i64 8
  %4 = load i32, ptr %3
  notail call void %code(ptr %vmctx, i32 %2, i32 %4)
  ret void
}

define hidden i32 @f0(ptr %vmctx, i32 %p0) #0 !dbg !8 {
  %v0 = alloca i32
  %fuel = alloca i64
  %s1.0.i32 = alloca i32
  %fuel.word = getelementptr i8, ptr %vmctx, i64 -32
  store i32 %p0, ptr %v0
  %1 = load i64, ptr %fuel.word
  store i64 %1, ptr %fuel
  %fuel.a2 = load i64, ptr %fuel
  %fuel.b2 = add i64 %fuel.a2, 5
  store i64 %fuel.b2, ptr %fuel
  %fuel.c2 = icmp slt i64 %fuel.b2, 0
  br i1 %fuel.c2, label %g2, label %o2, !prof !3
g2:
  %3 = icmp slt i32 %p0, 2
  br i1 %3, label %i5, label %e5
i5:
  store i32 %p0, ptr %s1.0.i32
  %fuel.s17 = load i64, ptr %fuel
  store volatile i64 %fuel.s17, ptr %fuel.word
  br label %b5
e5:
  %fuel.a7 = load i64, ptr %fuel
  %fuel.b7 = add i64 %fuel.a7, 8
  store i64 %fuel.b7, ptr %fuel
  %8 = load i32, ptr %v0
  %9 = sub i32 %8, 1
  %fuel.s10 = load i64, ptr %fuel
  store volatile i64 %fuel.s10, ptr %fuel.word
  %11 = notail call i32 @f0(ptr %vmctx, i32 %9), !dbg !DILocation(line: 17, scope: !8)
  %12 = load i64, ptr %fuel.word
  store i64 %12, ptr %fuel
  %13 = sub i32 %8, 2
  %14 = notail call i32 @f0(ptr %vmctx, i32 %13), !dbg !DILocation(line: 24, scope: !8)
  %15 = load i64, ptr %fuel.word
  store i64 %15, ptr %fuel
  %16 = add i32 %11, %14
  store i32 %16, ptr %s1.0.i32
  br label %b5
b5:
  %18 = load i32, ptr %s1.0.i32
  ret i32 %18
o2:
  store volatile i64 %fuel.b2, ptr %fuel.word
  %fuel.d2 = getelementptr i8, ptr %vmctx, i64 -16
  %fuel.e2 = load ptr, ptr %fuel.d2, !invariant.load !4
  %fuel.f2 = getelementptr i8, ptr %fuel.e2, i64 72
  %fuel.g2 = load ptr, ptr %fuel.f2, !invariant.load !4
  notail call preserve_mostcc void %fuel.g2(ptr %vmctx), !dbg !DILocation(line: 1, scope: !8)
  %fuel.h2 = load i64, ptr %fuel.word
  store i64 %fuel.h2, ptr %fuel
  br label %g2
}

define hidden i32 @f1(ptr %vmctx, i32 %p0, i32 %p1) #0 !dbg !9 {
  %v0 = alloca i32
  %v1 = alloca i32
  %fuel = alloca i64
  %fuel.word = getelementptr i8, ptr %vmctx, i64 -32
  store i32 %p0, ptr %v0
  store i32 %p1, ptr %v1
  %1 = load i64, ptr %fuel.word
  store i64 %1, ptr %fuel
  %fuel.a2 = load i64, ptr %fuel
  %fuel.b2 = add i64 %fuel.a2, 3
  store i64 %fuel.b2, ptr %fuel
  %3 = icmp ne i32 %p1, 0
  br i1 %3, label %c4, label %t4, !prof !3
c4:
  %6 = udiv i32 %p0, %p1
  %fuel.s7 = load i64, ptr %fuel
  store volatile i64 %fuel.s7, ptr %fuel.word
  ret i32 %6
t4:
  %fuel.s5 = load i64, ptr %fuel
  store volatile i64 %fuel.s5, ptr %fuel.word
  call void @llvm.ubsantrap(i8 2) #1, !dbg !DILocation(line: 6, scope: !9)
  unreachable
}

define hidden i32 @f2(ptr %vmctx, i32 %p0) #0 !dbg !10 {
  %v0 = alloca i32
  %v1 = alloca i32
  %fuel = alloca i64
  %fuel.word = getelementptr i8, ptr %vmctx, i64 -32
  store i32 %p0, ptr %v0
  store i32 0, ptr %v1
  %1 = load i64, ptr %fuel.word
  store i64 %1, ptr %fuel
  br label %l4
l4:
  %fuel.a5 = load i64, ptr %fuel
  %fuel.b5 = add i64 %fuel.a5, 3
  store i64 %fuel.b5, ptr %fuel
  %fuel.c5 = icmp slt i64 %fuel.b5, 0
  br i1 %fuel.c5, label %g5, label %o5, !prof !3
g5:
  %6 = load i32, ptr %v0
  %7 = icmp eq i32 %6, 0
  br i1 %7, label %b3, label %c9
c9:
  %fuel.a10 = load i64, ptr %fuel
  %fuel.b10 = add i64 %fuel.a10, 11
  store i64 %fuel.b10, ptr %fuel
  %11 = and i32 %6, 1
  %12 = icmp ne i32 %11, 0
  br i1 %12, label %i13, label %e13
i13:
  %fuel.a14 = load i64, ptr %fuel
  %fuel.b14 = add i64 %fuel.a14, 3
  store i64 %fuel.b14, ptr %fuel
  %15 = load i32, ptr %v1
  %fuel.s16 = load i64, ptr %fuel
  store volatile i64 %fuel.s16, ptr %fuel.word
  %17 = zext i32 %6 to i64
  %18 = getelementptr i8, ptr %vmctx, i64 %17
  %19 = load volatile i32, ptr %18, align 1, !dbg !DILocation(line: 24, scope: !10)
  %20 = add i32 %15, %19, !dbg !DILocation(line: 24, scope: !10)
  store i32 %20, ptr %v1
  br label %b13
e13:
  store i32 0, ptr %v1
  %fuel.s22 = load i64, ptr %fuel
  store volatile i64 %fuel.s22, ptr %fuel.word
  br label %b13
b13:
  %23 = load i32, ptr %v0
  %24 = sub i32 %23, 1
  store i32 %24, ptr %v0
  br label %l4
b3:
  %fuel.a25 = load i64, ptr %fuel
  %fuel.b25 = add i64 %fuel.a25, 1
  store i64 %fuel.b25, ptr %fuel
  %26 = load i32, ptr %v1
  %fuel.s27 = load i64, ptr %fuel
  store volatile i64 %fuel.s27, ptr %fuel.word
  ret i32 %26
o5:
  store volatile i64 %fuel.b5, ptr %fuel.word
  %fuel.d5 = getelementptr i8, ptr %vmctx, i64 -16
  %fuel.e5 = load ptr, ptr %fuel.d5, !invariant.load !4
  %fuel.f5 = getelementptr i8, ptr %fuel.e5, i64 72
  %fuel.g5 = load ptr, ptr %fuel.f5, !invariant.load !4
  notail call preserve_mostcc void %fuel.g5(ptr %vmctx), !dbg !DILocation(line: 6, scope: !10)
  %fuel.h5 = load i64, ptr %fuel.word
  store i64 %fuel.h5, ptr %fuel
  br label %g5
}

define hidden void @f3(ptr %vmctx, i32 %p0, i32 %p1) #0 !dbg !11 {
  %v0 = alloca i32
  %v1 = alloca i32
  %fuel = alloca i64
  %fuel.word = getelementptr i8, ptr %vmctx, i64 -32
  store i32 %p0, ptr %v0
  store i32 %p1, ptr %v1
  %1 = load i64, ptr %fuel.word
  store i64 %1, ptr %fuel
  %fuel.a2 = load i64, ptr %fuel
  %fuel.b2 = add i64 %fuel.a2, 4
  store i64 %fuel.b2, ptr %fuel
  %fuel.c2 = icmp slt i64 %fuel.b2, 0
  br i1 %fuel.c2, label %g2, label %o2, !prof !3
g2:
  %3 = zext i32 %p1 to i64
  %4 = lshr i64 %3, 3
  %5 = call i64 @llvm.umin.i64(i64 %4, i64 137438953472)
  %fuel.a6 = load i64, ptr %fuel
  %fuel.b6 = add i64 %fuel.a6, %5
  store i64 %fuel.b6, ptr %fuel
  %fuel.c6 = icmp slt i64 %fuel.b6, 0
  br i1 %fuel.c6, label %g6, label %o6, !prof !3
g6:
  %7 = zext i32 %p0 to i64
  %8 = getelementptr i8, ptr %vmctx, i64 -16
  %9 = load ptr, ptr %8, !invariant.load !4
  %10 = getelementptr i8, ptr %9, i64 24
  %11 = load ptr, ptr %10, !invariant.load !4
  %fuel.s12 = load i64, ptr %fuel
  store volatile i64 %fuel.s12, ptr %fuel.word
  notail call void %11(ptr %vmctx, i32 0, i64 %7, i32 7, i64 %3), !dbg !DILocation(line: 8, scope: !11)
  %13 = load i64, ptr %fuel.word
  store i64 %13, ptr %fuel
  ret void
o6:
  store volatile i64 %fuel.b6, ptr %fuel.word
  %fuel.d6 = getelementptr i8, ptr %vmctx, i64 -16
  %fuel.e6 = load ptr, ptr %fuel.d6, !invariant.load !4
  %fuel.f6 = getelementptr i8, ptr %fuel.e6, i64 72
  %fuel.g6 = load ptr, ptr %fuel.f6, !invariant.load !4
  notail call preserve_mostcc void %fuel.g6(ptr %vmctx), !dbg !DILocation(line: 8, scope: !11)
  %fuel.h6 = load i64, ptr %fuel.word
  store i64 %fuel.h6, ptr %fuel
  br label %g6
o2:
  store volatile i64 %fuel.b2, ptr %fuel.word
  %fuel.d2 = getelementptr i8, ptr %vmctx, i64 -16
  %fuel.e2 = load ptr, ptr %fuel.d2, !invariant.load !4
  %fuel.f2 = getelementptr i8, ptr %fuel.e2, i64 72
  %fuel.g2 = load ptr, ptr %fuel.f2, !invariant.load !4
  notail call preserve_mostcc void %fuel.g2(ptr %vmctx), !dbg !DILocation(line: 1, scope: !11)
  %fuel.h2 = load i64, ptr %fuel.word
  store i64 %fuel.h2, ptr %fuel
  br label %g2
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
!10 = distinct !DISubprogram(name: "f2", scope: !1, file: !1, line: 1, type: !2, spFlags: DISPFlagDefinition, unit: !0)
!11 = distinct !DISubprogram(name: "f3", scope: !1, file: !1, line: 1, type: !2, spFlags: DISPFlagDefinition, unit: !0)
