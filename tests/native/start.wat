;; A start function that asks the host what to do; 13 is to trap.
(module
  (import "host" "stop" (func $stop (param i32) (result i32)))
  (global $started (export "started") (mut i32) (i32.const 0))
  (memory 1)
  (table (export "t") 1 funcref)
  (elem (i32.const 0) func $value)
  (func $value (export "value") (result i32) (global.get $started))
  (func $ask (export "ask") (result i32) (local $answer i32)
    (local.set $answer (call $stop (i32.const 9)))
    (if (i32.eq (local.get $answer) (i32.const 13)) (then (unreachable)))
    (local.get $answer))
  (func $start
    (global.set $started (i32.add (global.get $started) (call $ask))))
  (start $start))
