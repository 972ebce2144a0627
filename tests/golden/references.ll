target triple = "x86_64-unknown-linux-gnu"

define hidden i32 @f0(ptr %vmctx, i32 %p0) #0 {
  %1 = notail call tailcc i32 @t0(ptr %vmctx, i32 %p0)
  ret i32 %1
}

define hidden i32 @f1(ptr %vmctx, ptr %p0) #0 {
  %1 = notail call tailcc i32 @t1(ptr %vmctx, ptr %p0)
  ret i32 %1
}

define hidden i32 @f2(ptr %vmctx, ptr %p0) #0 {
  %1 = notail call tailcc i32 @t2(ptr %vmctx, ptr %p0)
  ret i32 %1
}

define hidden i32 @f3(ptr %vmctx, ptr %p0) #0 {
  %1 = notail call tailcc i32 @t3(ptr %vmctx, ptr %p0)
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

define hidden void @e1(ptr %vmctx, ptr %code, ptr %slots) #0 {
  %1 = getelementptr i8, ptr %slots, i64 0
  %2 = load ptr, ptr %1
  %3 = notail call i32 %code(ptr %vmctx, ptr %2)
  %4 = zext i32 %3 to i64
  %5 = getelementptr i8, ptr %slots, i64 0
  store i64 %4, ptr %5
  ret void
}

define weak hidden tailcc i32 @t0(ptr %vmctx, i32 %p0) #0 !dbg !8 {
  %v0 = alloca i32
  store i32 %p0, ptr %v0
  %1 = getelementptr i8, ptr %vmctx, i64 -104
  %2 = getelementptr i8, ptr %1, i64 0
  %3 = load volatile ptr, ptr %2, !dbg !DILocation(line: 6, scope: !8)
  %4 = getelementptr i8, ptr %1, i64 8
  %5 = load volatile ptr, ptr %4, !dbg !DILocation(line: 6, scope: !8)
  %6 = notail call i32 %3(ptr %5, i32 %p0), !dbg !DILocation(line: 6, scope: !8)
  ret i32 %6
}

define weak hidden tailcc i32 @t1(ptr %vmctx, ptr %p0) #0 !dbg !9 {
  %v0 = alloca ptr
  %s0.0.i32 = alloca i32
  store ptr %p0, ptr %v0
  %1 = getelementptr i8, ptr %p0, i64 8
  %2 = load volatile ptr, ptr %1, !dbg !DILocation(line: 6, scope: !9)
  %3 = getelementptr i8, ptr %p0, i64 32
  %4 = load ptr, ptr %3, !dbg !DILocation(line: 6, scope: !9)
  %5 = icmp eq ptr %2, %vmctx
  %6 = icmp ne ptr %4, null
  %7 = and i1 %5, %6
  br i1 %7, label %j8, label %o8
j8:
  %9 = tail call tailcc i32 %4(ptr %vmctx, i32 1), !dbg !DILocation(line: 6, scope: !9)
  ret i32 %9
o8:
  %10 = getelementptr i8, ptr %p0, i64 0
  %11 = load ptr, ptr %10, !dbg !DILocation(line: 6, scope: !9)
  %12 = notail call i32 %11(ptr %2, i32 1), !dbg !DILocation(line: 6, scope: !9)
  store i32 %12, ptr %s0.0.i32
  br label %return
return:
  %13 = load i32, ptr %s0.0.i32
  ret i32 %13
}

define weak hidden tailcc i32 @t2(ptr %vmctx, ptr %p0) #0 !dbg !10 {
  %v0 = alloca ptr
  %s0.0.i32 = alloca i32
  store ptr %p0, ptr %v0
  %2 = icmp eq ptr %p0, null
  br i1 %2, label %b1, label %c3
c3:
  %4 = icmp ne ptr %p0, null
  br i1 %4, label %c5, label %t5, !prof !3
c5:
  store i32 1, ptr %s0.0.i32
  br label %return
b1:
  store i32 0, ptr %s0.0.i32
  br label %return
return:
  %6 = load i32, ptr %s0.0.i32
  ret i32 %6
t5:
  call void @llvm.ubsantrap(i8 11) #1, !dbg !DILocation(line: 8, scope: !10)
  unreachable
}

define weak hidden tailcc i32 @t3(ptr %vmctx, ptr %p0) #0 !dbg !11 {
  %v0 = alloca ptr
  %s1.0.ptr = alloca ptr
  %s0.0.i32 = alloca i32
  store ptr %p0, ptr %v0
  %2 = icmp ne ptr %p0, null
  store ptr %p0, ptr %s1.0.ptr
  br i1 %2, label %b1, label %c3
c3:
  store i32 0, ptr %s0.0.i32
  br label %return
b1:
  %4 = load ptr, ptr %s1.0.ptr
  store i32 1, ptr %s0.0.i32
  br label %return
return:
  %5 = load i32, ptr %s0.0.i32
  ret i32 %5
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
!8 = distinct !DISubprogram(name: "t0", scope: !1, file: !1, line: 1, type: !2, spFlags: DISPFlagDefinition, unit: !0)
!9 = distinct !DISubprogram(name: "t1", scope: !1, file: !1, line: 1, type: !2, spFlags: DISPFlagDefinition, unit: !0)
!10 = distinct !DISubprogram(name: "t2", scope: !1, file: !1, line: 1, type: !2, spFlags: DISPFlagDefinition, unit: !0)
!11 = distinct !DISubprogram(name: "t3", scope: !1, file: !1, line: 1, type: !2, spFlags: DISPFlagDefinition, unit: !0)
