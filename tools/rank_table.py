"""Rank tables of HCCL: the same as `port data ranks`.

python tools/rank_table.py write hccl.json --server 10.0.0.10/0=192.168.1.8,1=192.168.1.9
"""

from porting.cli_data import run

if __name__ == "__main__":
    run("ranks")
