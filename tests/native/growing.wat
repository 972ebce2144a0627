;; A table that may grow for ever.
(module
  (table $t (export "t") 3 funcref)
  (elem (table $t) (i32.const 1) func $one)
  (type $int (func (result i32)))
  (func $one (result i32) (i32.const 1))
  (func (export "call") (param i32) (result i32) (call_indirect $t (type $int) (local.get 0)))
  (func (export "size") (result i32) (table.size $t))
  (func (export "grow") (param i32) (result i32) (table.grow $t (ref.func $one) (local.get 0))))
