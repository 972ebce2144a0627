;; opt_level=fast
;; Direct calls, one, two and three results, imports, a static and a dynamic table.
(module
  (type $f (func (param i32) (result i32)))
  (import "m" "i" (func $i (type $f)))
  (table $s 3 3 funcref) (elem (table $s) (i32.const 1) func $one $i)
  (table $d (export "d") 2 2 funcref)
  (func $one (type $f) (call $i (local.get 0)))
  (func $two (result i64 f64) (i64.const 1) (f64.const 2.5))
  (func $three (result i32 f32 i32) (i32.const 1) (f32.const 2.5) (i32.const 3))
  (func (export "f") (call $two) (drop) (drop) (call $three) (drop) (drop) (drop) (drop (call $one (i32.const 4))))
  (func (type $f) (call_indirect $s (type $f) (i32.const 5) (local.get 0)))
  (func (type $f) (call_indirect $d (type $f) (i32.const 5) (local.get 0))))
