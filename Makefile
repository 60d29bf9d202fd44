devnet test check bench:
	./dev $@
.PHONY: devnet test check bench
