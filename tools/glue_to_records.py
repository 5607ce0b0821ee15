"""GLUE's files to TFRecord or MindRecord: the same as `port data glue`.

python tools/glue_to_records.py mrpc GLUE/MRPC -o records --vocab vocab.txt --max-seq-length 128
"""

from porting.cli_data import run

if __name__ == "__main__":
    run("glue")
