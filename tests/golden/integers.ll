target triple = "x86_64-unknown-linux-gnu"

define hidden i32 @f0(ptr %vmctx, i32 %p0, i32 %p1) #0 !dbg !8 {
  %v0 = alloca i32
  %v1 = alloca i32
  store i32 %p0, ptr %v0
  store i32 %p1, ptr %v1
  %1 = icmp ne i32 %p1, 0
  br i1 %1, label %c2, label %t2, !prof !3
c2:
  %3 = icmp ne i32 %p1, -1
  %4 = icmp ne i32 %p0, -2147483648
  %5 = or i1 %3, %4
  br i1 %5, label %c6, label %t6, !prof !3
c6:
  %7 = sdiv i32 %p0, %p1
  %8 = icmp ne i32 %p1, 0
  br i1 %8, label %c9, label %t9, !prof !3
c9:
  %10 = icmp eq i32 %p1, -1
  %11 = select i1 %10, i32 1, i32 %p1
  %12 = srem i32 %p0, %11
  %13 = udiv i32 %p0, 10
  %14 = and i32 %p1, 31
  %15 = shl i32 %p0, %14
  %16 = ashr i32 %p0, 1
  %17 = call i32 @llvm.fshl.i32(i32 %p0, i32 %p0, i32 %p1)
  %18 = xor i32 %16, %17
  %19 = or i32 %15, %18
  ret i32 %19
t2:
  call void @llvm.ubsantrap(i8 2) #1, !dbg !DILocation(line: 6, scope: !8)
  unreachable
t6:
  call void @llvm.ubsantrap(i8 3) #1, !dbg !DILocation(line: 6, scope: !8)
  unreachable
t9:
  call void @llvm.ubsantrap(i8 2) #1, !dbg !DILocation(line: 11, scope: !8)
  unreachable
}

define hidden i32 @f1(ptr %vmctx, i64 %p0, i64 %p1) #0 !dbg !9 {
  %v0 = alloca i64
  %v1 = alloca i64
  %s0.0.i32 = alloca i32
  store i64 %p0, ptr %v0
  store i64 %p1, ptr %v1
  %1 = icmp ult i64 %p0, %p1
  br i1 %1, label %i3, label %e3
i3:
  %4 = icmp eq i64 %p0, 0
  %5 = zext i1 %4 to i32
  store i32 %5, ptr %s0.0.i32
  br label %return
e3:
  br label %b3
b3:
  %6 = load i64, ptr %v0
  %7 = trunc i64 %6 to i16
  %8 = sext i16 %7 to i64
  %9 = trunc i64 %8 to i32
  %10 = load i64, ptr %v1
  %11 = icmp ne i64 %6, %10
  %13 = select i1 %11, i32 %9, i32 3
  store i32 %13, ptr %s0.0.i32
  br label %return
return:
  %14 = load i32, ptr %s0.0.i32
  ret i32 %14
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
