def test_a_statement_goes_all_the_way(supervisor) -> None:
    from pgactor import Client

    for e in (supervisor.ipc, supervisor.tcp):
        with Client(e) as c:
            assert c.fetchval("select 41+1") == 42
