"""notifyctl as a shell starts it that has closed some of its streams: `python without_streams.py 0,2 clients list`.

The interpreter finds them closed when it starts, and has None in their place.
"""

import os
import runpy
import sys

if __name__ == "__main__":
    for number in map(int, sys.argv.pop(1).split(",")):
        os.close(number)
        setattr(sys, ("stdin", "stdout", "stderr")[number], None)
    runpy.run_module("notifyctl", run_name="__main__", alter_sys=True)
