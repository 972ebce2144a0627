;; Passes one imported function on.
(module
  (import "other" "value" (func $value (result i32)))
  (table (export "t") 2 funcref)
  (export "again" (func $value))
  (func (export "relay") (result i32) (call $value))
  (func $mine (export "mine") (result i32) (i32.const 99)))
