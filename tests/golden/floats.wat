;; Floating-point operators: fences, minimum, truncation, constants.
(module
  (func (param f64 f32) (result i64) (local f64)
    (local.set 2 (f64.mul (local.get 0) (f64.const 1)))
    (local.set 0 (f64.add (local.get 2) (f64.mul (f64.const 2.5) (local.get 0))))
    (local.set 0 (f64.min (local.get 0) (local.get 2)))
    (local.set 1 (f32.copysign (f32.nearest (local.get 1)) (f32.const inf)))
    (local.set 0 (f64.add (f64.const 0.5) (f64.const 0.5)))
    (i64.trunc_f64_u (f64.promote_f32 (local.get 1))))
  (func (param f64) (result f32)
    (f32.convert_i32_s (i32.trunc_f64_s (local.get 0)))
    (f32.reinterpret_i32 (i32.trunc_sat_f64_u (local.get 0)))
    (f32.div)))
