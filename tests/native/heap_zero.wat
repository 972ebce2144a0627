;; No pages at first.
(module
  (memory (export "memory") 0 1000)
  (func (export "touch") (param $page i32) (param $count i32) (param $step i32)
    (block $done
      (loop $more
        (br_if $done (i32.eqz (local.get $count)))
        (i32.store8 (i32.add (i32.shl (local.get $page) (i32.const 12)) (i32.const 100)) (i32.const 0xee))
        (local.set $page (i32.add (local.get $page) (local.get $step)))
        (local.set $count (i32.sub (local.get $count) (i32.const 1)))
        (br $more))))
  (func (export "fill") (param i32 i32 i32) (memory.fill (local.get 0) (local.get 1) (local.get 2)))
  (func (export "grow") (param i32) (result i32) (memory.grow (local.get 0))))
