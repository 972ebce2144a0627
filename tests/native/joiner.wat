;; Imports from two instances.
(module
  (import "a" "value" (func $value (result i32)))
  (import "b" "sum" (func $sum (param i32 i32) (result i32)))
  (func (export "join") (param i32) (result i32) (call $sum (local.get 0) (call $value))))
