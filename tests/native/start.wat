;; A start function that asks the host what to do.
(module
  (import "host" "stop" (func $stop (param i32) (result i32)))
  (global $started (export "started") (mut i32) (i32.const 0))
  (memory 1)
  (table (export "t") 1 funcref)
  (elem (i32.const 0) func $value)
  (func $value (export "value") (result i32) (global.get $started))
  (func $start
    (global.set $started (i32.add (global.get $started) (call $stop (i32.const 9)))))
  (start $start))
