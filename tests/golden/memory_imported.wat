;; The base of an imported memory is loaded once on entry.
(module (import "m" "m" (memory 1)) (data (i32.const 4) "abc")
  (func (param i32) (result i32)
    (i32.store offset=4 (local.get 0) (memory.size))
    (i32.load (i32.const 16))))
