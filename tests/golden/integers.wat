;; Integer operators: division with its traps, shifts, rotations, comparisons as conditions and as values.
(module
  (func (param i32 i32) (result i32)
    (i32.div_s (local.get 0) (local.get 1))
    (i32.rem_s (local.get 0) (local.get 1))
    (i32.div_u (local.get 0) (i32.const 10))
    (drop) (drop) (drop)
    (i32.shl (local.get 0) (local.get 1))
    (i32.shr_s (local.get 0) (i32.const 33))
    (i32.rotl (local.get 0) (local.get 1))
    (i32.xor) (i32.or))
  (func (param i64 i64) (result i32)
    (if (i64.lt_u (local.get 0) (local.get 1)) (then (return (i64.eqz (local.get 0)))))
    (select (i32.wrap_i64 (i64.extend16_s (local.get 0))) (i32.const 3) (i64.ne (local.get 0) (local.get 1)))))
