;; What is counted, and where a run may stop. Costs are those of the functions' bodies.
(module
  (import "other" "call" (func $call (param i32) (result i32)))
  (import "other" "start" (func $during_start (param i32) (result i32)))
  (memory (export "memory") 1 2)
  (table $t (export "t") 4 100 funcref)
  (type $unary (func (param i32) (result i32)))
  (func (export "add") (param i32 i32) (result i32) (i32.add (local.get 0) (local.get 1))) ;; 3
  ;; 9 for each turn, and 1 at the end
  (func $sum (export "sum") (param $n i32) (result i32) (local $sum i32)
    (loop $next
      (local.set $sum (i32.add (local.get $sum) (local.get $n)))
      (br_if $next (local.tee $n (i32.sub (local.get $n) (i32.const 1)))))
    (local.get $sum))
  ;; Many values are alive at the check, of both kinds of registers.
  (func (export "mix") (param $n i32) (result f64)
    (local $a i64) (local $b i64) (local $c i64) (local $d i64) (local $e i64) (local $f i64)
    (local $v f64) (local $w f64) (local $x f64) (local $y f64)
    (local.set $v (f64.const 1.5)) (local.set $w (f64.const 2.5))
    (loop $next
      (local.set $a (i64.add (local.get $a) (i64.extend_i32_u (local.get $n))))
      (local.set $b (i64.xor (local.get $b) (local.get $a)))
      (local.set $c (i64.add (local.get $c) (local.get $b)))
      (local.set $d (i64.mul (i64.or (local.get $d) (i64.const 1)) (i64.const 0x100000001b3)))
      (local.set $e (i64.sub (local.get $e) (local.get $c)))
      (local.set $f (i64.rotl (i64.add (local.get $f) (local.get $d)) (i64.const 7)))
      (local.set $v (f64.add (local.get $v) (f64.convert_i64_s (local.get $b))))
      (local.set $w (f64.mul (local.get $w) (f64.const 1.0625)))
      (local.set $x (f64.sub (local.get $x) (local.get $v)))
      (local.set $y (f64.add (local.get $y) (f64.mul (local.get $w) (f64.const 0.125))))
      (br_if $next (local.tee $n (i32.sub (local.get $n) (i32.const 1)))))
    (f64.add (f64.add (local.get $v) (local.get $w)) (f64.add (f64.add (local.get $x) (local.get $y))
      (f64.convert_i64_s (i64.xor (i64.xor (local.get $a) (local.get $c))
        (i64.xor (i64.xor (local.get $d) (local.get $b)) (i64.xor (local.get $e) (local.get $f))))))))
  (func (export "spin") (loop $again (br $again)))
  (func $recurse (export "recurse") (param i32) (result i32)
    (i32.add (call $recurse (i32.add (local.get 0) (i32.const 1))) (i32.const 1)))
  (func $fib (export "fib") (param i32) (result i32)
    (if (result i32) (i32.lt_s (local.get 0) (i32.const 2))
      (then (local.get 0))
      (else (i32.add (call $fib (i32.sub (local.get 0) (i32.const 1))) (call $fib (i32.sub (local.get 0) (i32.const 2)))))))
  ;; 5
  (func (export "call") (param i32) (result i32) (i32.add (call $call (local.get 0)) (i32.const 1)) (drop) (i32.const 0))
  ;; 8 and 3 more in the arm
  (func (export "load") (param i32 i32) (result i32)
    (if (local.get 1) (then (local.set 0 (i32.load (local.get 0)))))
    (i32.add (local.get 0) (i32.mul (local.get 1) (i32.const 2))) (drop) (local.get 0))
  (func (export "divide") (param i32) (result i32)
    (drop (i32.const 5))
    (i32.div_u (i32.const 1) (local.get 0)))
  (func (export "fill") (param i32 i32) (memory.fill (local.get 0) (i32.const 7) (local.get 1))) ;; 4, and by size
  (func (export "grow_table") (param i32) (result i32) (table.grow $t (ref.null func) (local.get 0))) ;; 3, and by size
  (func $start (drop (call $during_start (call $sum (i32.const 100)))))
  (start $start))
