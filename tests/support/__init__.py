"""What tests share: real servers started once, clocks, factories."""
