;; Alignment is checked, then bounds; everything is sequentially consistent.
(module (memory 1 2 shared) (memory $m i64 1 2 shared)
  (func (param i32 i64) (result i64)
    (i32.store (local.get 0) (memory.size))
    (i64.atomic.store16 offset=2 (local.get 0) (i64.atomic.load $m (local.get 1)))
    atomic.fence
    (drop (i32.atomic.rmw8.xchg_u (local.get 0) (i32.const 300)))
    (i64.atomic.rmw32.cmpxchg_u offset=5 (local.get 0) (local.get 1) (i64.const 7)))
  (func (param i32 i64) (result i32)
    (drop (memory.atomic.wait32 offset=4 (local.get 0) (i32.const 1) (local.get 1)))
    (drop (memory.atomic.wait64 $m (local.get 1) (local.get 1) (i64.const -1)))
    (memory.atomic.notify (local.get 0) (i32.const 1))))
