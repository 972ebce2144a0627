target triple = "x86_64-unknown-linux-gnu"

define hidden <2 x i64> @f0(ptr %vmctx, i32 %p0, <2 x i64> %p1, <2 x i64> %p2) #0 !dbg !8 {
  %v0 = alloca i32
  %v1 = alloca <2 x i64>
  %v2 = alloca <2 x i64>
  %v3 = alloca <2 x i64>
  store i32 %p0, ptr %v0
  store <2 x i64> %p1, ptr %v1
  store <2 x i64> %p2, ptr %v2
  store <2 x i64> <i64 0, i64 0>, ptr %v3
  %1 = bitcast <2 x i64> %p1 to <4 x float>
  %2 = call <4 x float> @llvm.arithmetic.fence.v4f32(<4 x float> %1)
  %3 = bitcast <2 x i64> %p2 to <4 x float>
  %4 = call <4 x float> @llvm.arithmetic.fence.v4f32(<4 x float> %3)
  %5 = fmul <4 x float> %2, %4
  %6 = zext i32 %p0 to i64
  %7 = getelementptr i8, ptr %vmctx, i64 %6
  %8 = getelementptr i8, ptr %7, i64 16
  %9 = load volatile <2 x i64>, ptr %8, align 1, !dbg !DILocation(line: 13, scope: !8)
  %10 = bitcast <2 x i64> %9 to <4 x float>, !dbg !DILocation(line: 13, scope: !8)
  %11 = fadd <4 x float> %5, %10, !dbg !DILocation(line: 13, scope: !8)
  store <4 x float> %11, ptr %v3
  %12 = call <4 x float> @llvm.arithmetic.fence.v4f32(<4 x float> splat (float 0x3FF0000000000000))
  %13 = fdiv <4 x float> %11, %12, !dbg !DILocation(line: 13, scope: !8)
  %14 = fmul <4 x float> splat (float 0x4000000000000000), %13, !dbg !DILocation(line: 13, scope: !8)
  store <4 x float> %14, ptr %v3
  %15 = bitcast <2 x i64> %p1 to <16 x i8>
  %16 = bitcast <4 x float> %14 to <16 x i8>, !dbg !DILocation(line: 13, scope: !8)
  %17 = shufflevector <16 x i8> %16, <16 x i8> %15, <16 x i32> <i32 0, i32 1, i32 2, i32 3, i32 4, i32 5, i32 6, i32 7, i32 16, i32 17, i32 18, i32 19, i32 20, i32 21, i32 22, i32 23>, !dbg !DILocation(line: 13, scope: !8)
  %18 = bitcast <16 x i8> %17 to <2 x i64>, !dbg !DILocation(line: 13, scope: !8)
  %19 = getelementptr i8, ptr %vmctx, i64 -80
  store <2 x i64> %18, ptr %19
  %20 = getelementptr i8, ptr %vmctx, i64 -80
  %21 = load <2 x i64>, ptr %20
  %22 = bitcast <2 x i64> %21 to <4 x i32>
  %23 = add <4 x i32> splat (i32 3), %22
  store volatile <4 x i32> %23, ptr %7, align 1, !dbg !DILocation(line: 103, scope: !8)
  %24 = bitcast <4 x float> %14 to <2 x double>, !dbg !DILocation(line: 13, scope: !8)
  %25 = call <2 x double> @llvm.arithmetic.fence.v2f64(<2 x double> %24), !dbg !DILocation(line: 13, scope: !8)
  %26 = bitcast <2 x i64> %p2 to <2 x double>
  %27 = call <2 x double> @llvm.arithmetic.fence.v2f64(<2 x double> %26)
  %28 = fcmp olt <2 x double> %25, %27, !dbg !DILocation(line: 13, scope: !8)
  %29 = select <2 x i1> %28, <2 x double> %25, <2 x double> %27, !dbg !DILocation(line: 13, scope: !8)
  %30 = bitcast <2 x double> %29 to <2 x i64>, !dbg !DILocation(line: 13, scope: !8)
  %31 = fcmp olt <2 x double> %27, %25, !dbg !DILocation(line: 13, scope: !8)
  %32 = select <2 x i1> %31, <2 x double> %27, <2 x double> %25, !dbg !DILocation(line: 13, scope: !8)
  %33 = bitcast <2 x double> %32 to <2 x i64>, !dbg !DILocation(line: 13, scope: !8)
  %34 = or <2 x i64> %30, %33, !dbg !DILocation(line: 13, scope: !8)
  %35 = bitcast <2 x i64> %34 to <2 x double>, !dbg !DILocation(line: 13, scope: !8)
  %36 = fadd <2 x double> %25, %27, !dbg !DILocation(line: 13, scope: !8)
  %37 = fcmp uno <2 x double> %25, %27, !dbg !DILocation(line: 13, scope: !8)
  %38 = select <2 x i1> %37, <2 x double> %36, <2 x double> %35, !dbg !DILocation(line: 13, scope: !8)
  %39 = bitcast <2 x double> %38 to <2 x i64>, !dbg !DILocation(line: 13, scope: !8)
  ret <2 x i64> %39
}

define hidden i32 @f1(ptr %vmctx, i32 %p0, <2 x i64> %p1) #0 !dbg !9 {
  %v0 = alloca i32
  %v1 = alloca <2 x i64>
  %s1.0.i32 = alloca i32
  store i32 %p0, ptr %v0
  store <2 x i64> %p1, ptr %v1
  %1 = zext i32 %p0 to i64
  %2 = getelementptr i8, ptr %vmctx, i64 %1
  %3 = load volatile i64, ptr %2, align 1, !dbg !DILocation(line: 6, scope: !9)
  %4 = bitcast i64 %3 to <8 x i8>, !dbg !DILocation(line: 6, scope: !9)
  %5 = zext <8 x i8> %4 to <8 x i16>, !dbg !DILocation(line: 6, scope: !9)
  %6 = and i32 %p0, 15
  %7 = insertelement <4 x i32> zeroinitializer, i32 %6, i32 0
  %8 = bitcast <4 x i32> %7 to <8 x i16>
  %9 = call <8 x i16> @llvm.x86.sse2.psll.w(<8 x i16> %5, <8 x i16> %8), !dbg !DILocation(line: 6, scope: !9)
  %10 = extractelement <8 x i16> %9, i32 3, !dbg !DILocation(line: 6, scope: !9)
  store volatile i16 %10, ptr %2, align 1, !dbg !DILocation(line: 15, scope: !9)
  %11 = bitcast <2 x i64> %p1 to i128
  %12 = icmp ne i128 %11, 0
  br i1 %12, label %i14, label %e14
i14:
  %15 = load volatile i32, ptr %2, align 1, !dbg !DILocation(line: 30, scope: !9)
  %16 = insertelement <4 x i32> poison, i32 %15, i32 0, !dbg !DILocation(line: 30, scope: !9)
  %17 = shufflevector <4 x i32> %16, <4 x i32> poison, <4 x i32> zeroinitializer, !dbg !DILocation(line: 30, scope: !9)
  %18 = bitcast <2 x i64> %p1 to <16 x i8>
  %19 = bitcast <4 x i32> %17 to <16 x i8>, !dbg !DILocation(line: 30, scope: !9)
  %20 = call <16 x i8> @llvm.uadd.sat.v16i8(<16 x i8> %19, <16 x i8> splat (i8 112)), !dbg !DILocation(line: 30, scope: !9)
  %21 = call <16 x i8> @llvm.x86.ssse3.pshuf.b.128(<16 x i8> %18, <16 x i8> %20), !dbg !DILocation(line: 30, scope: !9)
  %22 = icmp slt <16 x i8> %21, zeroinitializer, !dbg !DILocation(line: 30, scope: !9)
  %23 = bitcast <16 x i1> %22 to i16, !dbg !DILocation(line: 30, scope: !9)
  %24 = zext i16 %23 to i32, !dbg !DILocation(line: 30, scope: !9)
  store i32 %24, ptr %s1.0.i32
  br label %b14
e14:
  %25 = load <2 x i64>, ptr %v1
  %26 = bitcast <2 x i64> %25 to <4 x float>
  %27 = call <4 x float> @llvm.arithmetic.fence.v4f32(<4 x float> %26)
  %28 = call <4 x i32> @llvm.x86.sse2.cvttps2dq(<4 x float> %27)
  %29 = fcmp oge <4 x float> %27, splat (float 0x41E0000000000000)
  %30 = sext <4 x i1> %29 to <4 x i32>
  %31 = xor <4 x i32> %28, %30
  %32 = fcmp ord <4 x float> %27, zeroinitializer
  %33 = sext <4 x i1> %32 to <4 x i32>
  %34 = and <4 x i32> %31, %33
  %35 = bitcast <4 x i32> %34 to <8 x i16>
  %36 = extractelement <8 x i16> %35, i32 2
  %37 = sext i16 %36 to i32
  store i32 %37, ptr %s1.0.i32
  br label %b14
b14:
  %38 = load i32, ptr %s1.0.i32
  ret i32 %38
}

define hidden void @f2(ptr %vmctx, ptr %results, <2 x i64> %p0, i32 %p1) #0 !dbg !10 {
  %v0 = alloca <2 x i64>
  %v1 = alloca i32
  store <2 x i64> %p0, ptr %v0
  store i32 %p1, ptr %v1
  %1 = and <2 x i64> %p0, %p0
  %2 = xor <2 x i64> %p0, splat (i64 -1)
  %3 = and <2 x i64> <i64 18446744069414584320, i64 18446744069414584320>, %2
  %4 = or <2 x i64> %1, %3
  %5 = bitcast <2 x i64> %p0 to <8 x i16>
  %6 = call <8 x i16> @llvm.abs.v8i16(<8 x i16> %5, i1 false)
  %7 = icmp ne i32 %p1, 0
  %8 = bitcast <8 x i16> %6 to <2 x i64>
  %9 = select i1 %7, <2 x i64> %p0, <2 x i64> %8
  %10 = bitcast <2 x i64> %p0 to <16 x i8>
  %11 = zext i32 %p1 to i64
  %12 = getelementptr i8, ptr %vmctx, i64 %11
  %13 = load volatile i8, ptr %12, align 1, !dbg !DILocation(line: 40, scope: !10)
  %14 = insertelement <16 x i8> %10, i8 %13, i32 15, !dbg !DILocation(line: 40, scope: !10)
  %15 = bitcast <16 x i8> %14 to <2 x i64>, !dbg !DILocation(line: 40, scope: !10)
  %16 = getelementptr i8, ptr %results, i64 0
  store <2 x i64> %4, ptr %16, align 8
  %17 = getelementptr i8, ptr %results, i64 16
  store <2 x i64> %9, ptr %17, align 8
  %18 = getelementptr i8, ptr %results, i64 32
  store <2 x i64> %15, ptr %18, align 8
  ret void
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
