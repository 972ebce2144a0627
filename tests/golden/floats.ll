target triple = "x86_64-unknown-linux-gnu"

define hidden i64 @f0(ptr %vmctx, double %p0, float %p1) #0 !dbg !8 {
  %v0 = alloca double
  %v1 = alloca float
  %v2 = alloca double
  %1 = call double @llvm.arithmetic.fence.f64(double 0x0000000000000000)
  store double %p0, ptr %v0
  store float %p1, ptr %v1
  store double %1, ptr %v2
  %2 = call double @llvm.arithmetic.fence.f64(double 0x3FF0000000000000)
  %3 = fmul double %p0, %2
  store double %3, ptr %v2
  %4 = fmul double 0x4004000000000000, %p0
  %5 = fadd double %3, %4
  store double %5, ptr %v0
  %6 = fcmp olt double %5, %3
  %7 = select i1 %6, double %5, double %3
  %8 = bitcast double %5 to i64
  %9 = bitcast double %3 to i64
  %10 = or i64 %8, %9
  %11 = bitcast i64 %10 to double
  %12 = fadd double %5, %3
  %13 = fcmp uno double %5, %3
  %14 = fcmp one double %5, %3
  %15 = select i1 %13, double %12, double %11
  %16 = select i1 %14, double %7, double %15
  store double %16, ptr %v0
  %17 = call float @llvm.roundeven.f32(float %p1)
  %18 = call float @llvm.copysign.f32(float %17, float 0x7FF0000000000000)
  store float %18, ptr %v1
  %19 = call double @llvm.arithmetic.fence.f64(double 0x3FE0000000000000)
  %20 = fadd double %19, 0x3FE0000000000000
  store double %20, ptr %v0
  %21 = fpext float %18 to double
  %22 = call double @llvm.arithmetic.fence.f64(double %21)
  %23 = fcmp ogt double %22, 0xBFF0000000000000
  %24 = fcmp olt double %22, 0x43F0000000000000
  %25 = and i1 %23, %24
  br i1 %25, label %c26, label %r26, !prof !3
c26:
  %27 = fptoui double %22 to i64
  ret i64 %27
r26:
  %u26 = fcmp uno double %22, %22
  br i1 %u26, label %n26, label %o26
n26:
  call void @llvm.ubsantrap(i8 4) #1, !dbg !DILocation(line: 77, scope: !8)
  unreachable
o26:
  call void @llvm.ubsantrap(i8 3) #1, !dbg !DILocation(line: 77, scope: !8)
  unreachable
}

define hidden float @f1(ptr %vmctx, double %p0) #0 !dbg !9 {
  %v0 = alloca double
  store double %p0, ptr %v0
  %1 = fcmp ogt double %p0, 0xC1E0000000200000
  %2 = fcmp olt double %p0, 0x41E0000000000000
  %3 = and i1 %1, %2
  br i1 %3, label %c4, label %r4, !prof !3
c4:
  %5 = fptosi double %p0 to i32
  %6 = sitofp i32 %5 to float
  %7 = call float @llvm.arithmetic.fence.f32(float %6)
  %8 = call i32 @llvm.fptoui.sat.i32.f64(double %p0)
  %9 = bitcast i32 %8 to float
  %10 = call float @llvm.arithmetic.fence.f32(float %9)
  %11 = fdiv float %7, %10
  ret float %11
r4:
  %u4 = fcmp uno double %p0, %p0
  br i1 %u4, label %n4, label %o4
n4:
  call void @llvm.ubsantrap(i8 4) #1, !dbg !DILocation(line: 4, scope: !9)
  unreachable
o4:
  call void @llvm.ubsantrap(i8 3) #1, !dbg !DILocation(line: 4, scope: !9)
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
