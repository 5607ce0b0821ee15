"""`python -m porting`, which is `port`: what launchers of several processes start (torchrun -m porting …)."""

from porting.cli import main

if __name__ == "__main__":
    main()
