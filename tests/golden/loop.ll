target triple = "x86_64-unknown-linux-gnu"

define hidden void @f0(ptr %vmctx, i32 %p0, i32 %p1, i32 %p2) #0 !dbg !8 {
  %v0 = alloca i32
  %v1 = alloca i32
  %v2 = alloca i32
  %v3 = alloca i32
  %rounds38 = alloca i64
  store i32 %p0, ptr %v0
  store i32 %p1, ptr %v1
  store i32 %p2, ptr %v2
  store i32 0, ptr %v3
  %2 = add i32 0, 1
  %3 = zext i32 %2 to i64
  %4 = zext i32 %p2 to i64
  %5 = sub i64 %4, %3
  %6 = icmp sgt i64 %5, 0
  %7 = add i64 %5, 0
  %8 = udiv i64 %7, 1
  %9 = select i1 %6, i64 %8, i64 0
  %10 = mul i64 %9, 1
  %11 = add i64 %3, %10
  %12 = icmp sle i64 %11, 4294967295
  %13 = add i32 %p1, 0
  %14 = zext i32 %13 to i64
  %15 = mul nsw i64 %9, 1
  %16 = add nsw i64 %14, %15
  %17 = getelementptr i8, ptr %vmctx, i64 -8
  %18 = load i64, ptr %17
  %19 = add nsw i64 %16, 1
  %20 = icmp ule i64 %19, %18
  %21 = ptrtoint ptr %vmctx to i64
  %22 = add i64 %14, %21
  %23 = inttoptr i64 %22 to ptr
  %24 = add i32 %p0, 0
  %25 = zext i32 %24 to i64
  %26 = mul nsw i64 %9, 1
  %27 = add nsw i64 %25, %26
  %28 = getelementptr i8, ptr %vmctx, i64 -8
  %29 = load i64, ptr %28
  %30 = add nsw i64 %27, 4
  %31 = icmp ule i64 %30, %29
  %32 = ptrtoint ptr %vmctx to i64
  %33 = add i64 %25, %32
  %34 = inttoptr i64 %33 to ptr
  %35 = and i1 %12, %20
  %36 = and i1 %35, %31
  %37 = add nuw nsw i64 %9, 1
  store i64 0, ptr %rounds38
  br i1 %36, label %l38, label %o38, !prof !3
l38:
  %39 = load i64, ptr %rounds38
  %40 = mul nuw nsw i64 %39, 1
  %41 = getelementptr inbounds i8, ptr %23, i64 %40
  %42 = mul nuw nsw i64 %39, 1
  %43 = getelementptr inbounds i8, ptr %34, i64 %42
  %44 = load i32, ptr %v0
  %45 = load i32, ptr %v3
  %46 = add i32 %44, %45
  %47 = load i32, ptr %v1
  %48 = add i32 %47, %45
  %49 = load i8, ptr %41, align 1
  %50 = zext i8 %49 to i32
  %51 = getelementptr inbounds i8, ptr %43, i64 3
  %52 = trunc i32 %50 to i8
  store i8 %52, ptr %51, align 1
  %53 = add i32 %45, 1
  store i32 %53, ptr %v3
  %54 = load i32, ptr %v2
  %55 = icmp ult i32 %53, %54
  %56 = zext i1 %55 to i32
  %57 = load i64, ptr %rounds38
  %58 = add nuw nsw i64 %57, 1
  store i64 %58, ptr %rounds38
  %59 = icmp ne i64 %58, %37
  br i1 %59, label %l38, label %h1
o38:
  br label %l60
l60:
  %61 = load i32, ptr %v0
  %62 = load i32, ptr %v3
  %63 = add i32 %61, %62
  %64 = load i32, ptr %v1
  %65 = add i32 %64, %62
  %66 = zext i32 %65 to i64
  %67 = getelementptr i8, ptr %vmctx, i64 %66
  %68 = load volatile i8, ptr %67, align 1, !dbg !DILocation(line: 16, scope: !8)
  %69 = zext i8 %68 to i32, !dbg !DILocation(line: 16, scope: !8)
  %70 = zext i32 %63 to i64
  %71 = getelementptr i8, ptr %vmctx, i64 %70
  %72 = getelementptr i8, ptr %71, i64 3
  %73 = trunc i32 %69 to i8, !dbg !DILocation(line: 16, scope: !8)
  store volatile i8 %73, ptr %72, align 1, !dbg !DILocation(line: 19, scope: !8)
  %74 = add i32 %62, 1
  store i32 %74, ptr %v3
  %75 = load i32, ptr %v2
  %76 = icmp ult i32 %74, %75
  br i1 %76, label %l60, label %c78
c78:
  br label %h1
h1:
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
