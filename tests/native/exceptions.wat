;; exceptions.wat: tags, throwing and catching; what host functions throw.
(module
  (import "host" "e" (tag $e (param i32 i64)))
  (import "host" "stop" (func $stop (param i32) (result i32)))
  (import "host" "pass" (func $pass (param exnref) (result exnref)))
  (tag $own (export "own") (param f64))
  (export "e" (tag $e))
  (global $kept (export "kept") (mut exnref) (ref.null exn))

  (func $deep (param i32) (result i32)
    (if (i32.eqz (local.get 0)) (then (throw $e (i32.const 7) (i64.const -8))))
    (i32.add (call $deep (i32.sub (local.get 0) (i32.const 1))) (i32.const 1)))
  ;; The value that comes from `depth` calls below.
  (func (export "catch") (param i32) (result i32)
    (block $h (result i32 i64)
      (try_table (catch $e $h) (return (call $deep (local.get 0)))) (unreachable))
    (drop))
  (func (export "throw") (param i32) (drop (call $deep (local.get 0))))
  (func (export "throw_own") (throw $own (f64.const 0.25)))
  (func (export "throw_for_ever")
    (loop $again
      (block $h (result i32 i64) (try_table (catch $e $h) (drop (call $deep (i32.const 3)))) (unreachable))
      (drop) (drop) (br $again)))
  (func (export "stop_for_ever")
    (loop $again
      (block $h (try_table (catch_all $h) (drop (call $stop (i32.const 0))))) (br $again)))
  ;; What the host function returns, or 1000 and what it throws, or 2000.
  (func (export "stop") (param i32) (result i32)
    (block $all
      (block $h (result i32 i64)
        (try_table (catch $e $h) (catch_all $all) (return (call $stop (local.get 0)))) (unreachable))
      (drop) (return (i32.add (i32.const 1000))))
    (i32.const 2000))
  (func (export "stop_bare") (param i32) (result i32) (call $stop (local.get 0)))
  (func $make (export "make") (param i32) (result exnref)
    (block $h (result exnref)
      (try_table (result exnref) (catch_all_ref $h) (throw $e (local.get 0) (i64.const 1)))))
  (func (export "keep") (param i32) (global.set $kept (call $make (local.get 0))))
  (func (export "kept_value") (result i32)
    (block $h (result i32 i64) (try_table (catch $e $h) (throw_ref (global.get $kept))) (unreachable)) (drop))
  (func (export "value") (param exnref) (result i32)
    (block $h (result i32 i64) (try_table (catch $e $h) (throw_ref (local.get 0))) (unreachable)) (drop))
  (func (export "garbage") (param i32)
    (loop $again
      (drop (call $make (local.get 0)))
      (br_if $again (local.tee 0 (i32.sub (local.get 0) (i32.const 1))))))
  (func (export "pass") (param i32) (result i32)
    (block $h (result i32 i64)
      (try_table (catch $e $h) (throw_ref (call $pass (call $make (local.get 0))))) (unreachable)) (drop)))
