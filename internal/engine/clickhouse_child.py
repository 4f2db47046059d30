"""Opens ClickHouse's native and HTTP listeners over one data folder.

Arguments: the engine's shared library, the server's folder (which holds config.xml). The ports go into the file
"ports" there, which is the sign that both listeners are open. The process ends when its standard input does.
"""
import importlib.machinery
import importlib.util
import os
import sys
import threading


def leave_with_parent():
    while os.read(0, 4096):
        pass
    os._exit(0)


def load(library):
    # The library alone: importing the package around it would boot a second engine.
    loader = importlib.machinery.ExtensionFileLoader("_chdb", library)
    module = importlib.util.module_from_spec(importlib.util.spec_from_loader("_chdb", loader))
    loader.exec_module(module)
    return module


SCRIPT = """
SYSTEM START LISTEN TCP;
SYSTEM START LISTEN HTTP;
SELECT getServerPort('tcp_port'), getServerPort('http_port') INTO OUTFILE 'ports' FORMAT TSV;
SELECT count() FROM system.numbers WHERE NOT ignore(sleepEachRow(1))
SETTINGS max_block_size = 1, max_threads = 1, function_sleep_max_microseconds_per_block = 0;
"""

library, folder = sys.argv[1], sys.argv[2]
threading.Thread(target=leave_with_parent, daemon=True).start()
os.chdir(folder)
load(library).query(SCRIPT, "TSV", path=os.path.join(folder, "data"))
sys.exit("the engine's session ended by itself")
