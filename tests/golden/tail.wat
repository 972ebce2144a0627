;; A module with tail calls: bodies in tailcc, wrappers where functions escape.
(module
  (type $f (func (param i32) (result i32)))
  (import "m" "i" (func $i (type $f)))
  (table $s 2 2 funcref) (elem (table $s) (i32.const 0) func $f $i)
  (table $d (export "d") 2 2 funcref)
  (func $f (export "f") (type $f) (return_call $g (local.get 0)))
  (func $g (type $f) (return_call_indirect $s (type $f) (local.get 0) (i32.const 1)))
  (func $h (type $f) (return_call_indirect $d (type $f) (call $g (local.get 0)) (i32.const 1)))
  (func (type $f) (return_call $i (local.get 0)))
  (func $many (result i32 i32 i32) (return_call $many)))
