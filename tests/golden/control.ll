target triple = "x86_64-unknown-linux-gnu"

define hidden i32 @f0(ptr %vmctx, i32 %p0) #0 !dbg !8 {
  %v0 = alloca i32
  %s1.0.i32 = alloca i32
  %s2.0.i32 = alloca i32
  store i32 %p0, ptr %v0
  %2 = icmp eq i32 %p0, 0
  store i32 7, ptr %s1.0.i32
  br i1 %2, label %b1, label %c4
c4:
  %5 = icmp slt i32 %p0, 10
  br i1 %5, label %i7, label %e7
i7:
  store i32 1, ptr %s2.0.i32
  br label %b7
e7:
  store i32 2, ptr %s1.0.i32
  br label %b1
b7:
  %8 = load i32, ptr %s2.0.i32
  store i32 %8, ptr %s1.0.i32
  br label %b1
b1:
  %9 = load i32, ptr %s1.0.i32
  ret i32 %9
}

define hidden i32 @f1(ptr %vmctx, i32 %p0) #0 !dbg !9 {
  %v0 = alloca i32
  %s1.0.i32 = alloca i32
  store i32 %p0, ptr %v0
  store i32 %p0, ptr %s1.0.i32
  br label %l1
l1:
  %2 = load i32, ptr %s1.0.i32
  %3 = sub i32 %2, 1
  store i32 %3, ptr %v0
  %4 = icmp ne i32 %3, 5
  store i32 %3, ptr %s1.0.i32
  br i1 %4, label %l1, label %c6
c6:
  ret i32 %3
}

define hidden void @f2(ptr %vmctx, i32 %p0) #0 !dbg !10 {
  %v0 = alloca i32
  store i32 %p0, ptr %v0
  switch i32 %p0, label %b1 [ i32 0, label %b3 i32 1, label %b2 ]
b3:
  br label %return
b2:
  call void @llvm.ubsantrap(i8 1) #1, !dbg !DILocation(line: 18, scope: !10)
  unreachable
b1:
  %4 = load i32, ptr %v0
  %5 = icmp ne i32 %4, 0
  br i1 %5, label %i6, label %e6
i6:
  br label %b6
e6:
  br label %b6
b6:
  br label %return
return:
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
