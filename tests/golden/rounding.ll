target triple = "x86_64-unknown-linux-gnu"

define hidden double @f0(ptr %vmctx, float %p0, double %p1) #0 !dbg !8 {
  %v0 = alloca float
  %v1 = alloca double
  store float %p0, ptr %v0
  store double %p1, ptr %v1
  %1 = call float @llvm.fabs.f32(float %p0)
  %2 = fadd float %1, 8388608.0
  %3 = fsub float %2, 8388608.0
  %4 = call float @llvm.copysign.f32(float %3, float %p0)
  %5 = call float @llvm.arithmetic.fence.f32(float 0x8000000000000000)
  %6 = fadd float %5, %p0
  %7 = fcmp olt float %1, 8388608.0
  %8 = select i1 %7, float %4, float %6
  %9 = call double @llvm.fabs.f64(double %p1)
  %10 = fadd double %9, 4503599627370496.0
  %11 = fsub double %10, 4503599627370496.0
  %12 = fcmp ogt double %11, %9
  %13 = fsub double %11, 1.0
  %14 = select i1 %12, double %13, double %11
  %15 = call double @llvm.copysign.f64(double %14, double %p1)
  %16 = call double @llvm.arithmetic.fence.f64(double 0x8000000000000000)
  %17 = fadd double %16, %p1
  %18 = fcmp olt double %9, 4503599627370496.0
  %19 = select i1 %18, double %15, double %17
  %20 = call double @llvm.fabs.f64(double %p1)
  %21 = fadd double %20, 4503599627370496.0
  %22 = fsub double %21, 4503599627370496.0
  %23 = call double @llvm.copysign.f64(double %22, double %p1)
  %24 = fcmp olt double %23, %p1
  %25 = fadd double %23, 1.0
  %26 = select i1 %24, double %25, double %23
  %27 = call double @llvm.copysign.f64(double %26, double %p1)
  %28 = call double @llvm.arithmetic.fence.f64(double 0x8000000000000000)
  %29 = fadd double %28, %p1
  %30 = fcmp olt double %20, 4503599627370496.0
  %31 = select i1 %30, double %27, double %29
  ret double %31
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
