;; Own and imported globals, mutable or not, exported or not; init for those that need the instance.
(module
  (import "m" "a" (global $a i32)) (import "m" "b" (global $b (mut i64)))
  (func $f)
  (global $c (mut f32) (f32.const -0)) (global $d f64 (f64.const 1)) (global $e funcref (ref.func $f))
  (global $x (export "x") (mut i32) (i32.add (global.get $a) (i32.const 3)))
  (func (result i32)
    (global.set $b (i64.extend_i32_u (global.get $a)))
    (global.set $c (f32.demote_f64 (global.get $d)))
    (global.set $x (ref.is_null (global.get $e)))
    (global.get $x)))
