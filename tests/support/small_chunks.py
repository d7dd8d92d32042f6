"""notifyctl in which `db copy` commits every 20 rows: `python small_chunks.py db copy --to …`."""

from notifyctl.cli.main import main
from notifyctl.transfer import copy_store

if __name__ == "__main__":
    copy_store.CHUNK_ROWS = 20
    main()
