;; target_cpu=x86-64
(module (func (param f32 f64) (result f64)
  (drop (f32.nearest (local.get 0)))
  (drop (f64.trunc (local.get 1)))
  (f64.ceil (local.get 1))))
