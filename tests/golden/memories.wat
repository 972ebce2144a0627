;; Every memory but the slot's has its base loaded on entry; pages of one byte are checked exactly.
(module (memory 1) (memory $other 1) (memory $bytes 9 (pagesize 1)) (data (memory $other) (i32.const 1) "abc")
  (data (i32.const 1) "image")
  (func (param i32) (result i32)
    (i32.store (local.get 0) (i32.load $other offset=4 (local.get 0)))
    (i32.store8 $bytes offset=2 (local.get 0) (i32.const 1))
    (i32.store16 $bytes offset=1 (local.get 0) (i32.const 1))
    (memory.copy $bytes $other (local.get 0) (i32.const 1) (i32.const 2))
    (i32.add (memory.grow $other (i32.const 1)) (memory.size $bytes))))
