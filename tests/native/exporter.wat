;; Everything that another instance can import.
(module
  (memory (export "memory") 1 4)
  (table (export "table") 4 8 funcref)
  (global (export "counter") (mut i64) (i64.const 100))
  (global (export "constant") i32 (i32.const 77))
  (type $int (func (result i32)))
  (func (export "one") (result i32) (i32.const 1))
  (func (export "peek") (param i32) (result i32) (i32.load8_u (local.get 0)))
  (func (export "call") (param i32) (result i32) (call_indirect (type $int) (local.get 0)))
  (func (export "trap") (unreachable)))
