"""The reconciler: observe, plan, apply, again and again.

`plan` is pure: what is wanted and what is seen, in; what to do, out. `loop`
does the seeing and the doing. Level-triggered: each pass starts from the whole
truth, so a crash anywhere loses nothing but time.
"""
