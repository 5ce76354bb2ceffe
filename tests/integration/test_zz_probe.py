import sys
sys.path.insert(0, "/work/main")
import pytest
from tests.integration import test_requests as T
from tests.integration.driving import *
from tests.integration.test_requests import schema
def test_print(dsn, launch, open_client, db, table, schema, capsys):
    sup = launch(max_size=3, max_frame_bytes=T.CAP)
    c = open_client(sup, "sync-ipc")
    import time
    with capsys.disabled():
        for name, case in {**T.WORKING, **T.FAILING}.items():
            if name in ("a lone surrogate in the statement",): continue
            t=time.time()
            a = outcome(lambda: case(c, table)); t1=time.time()-t
            try: db.execute(f"truncate {table}")
            except Exception as e: print("TRUNC", name, e)
            b = outcome(lambda: case(db, table))
            try: db.execute(f"truncate {table}")
            except Exception as e: print("TRUNC", name, e)
            if a != b: print("##", name, "\n   ours  ", str(a)[:600], "\n   theirs", str(b)[:600])
            if t1 > 0.3: print("SLOW", name, t1)
        for f in (lambda: c.fetchval("select '\ud800'"),):
            print(str(outcome(f))[:500])
