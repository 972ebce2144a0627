;; opt_level=best
(module
  (memory 1)
  (func (param $to i32) (param $from i32) (param $n i32) (local $i i32)
    (loop $l
      (i32.store8 offset=3 (i32.add (local.get $to) (local.get $i))
        (i32.load8_u (i32.add (local.get $from) (local.get $i))))
      (local.set $i (i32.add (local.get $i) (i32.const 1)))
      (br_if $l (i32.lt_u (local.get $i) (local.get $n))))))
