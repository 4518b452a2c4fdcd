from benchmarks.exactness import annotation_kills


def test_a_killed_program_loses_no_act(tmp_path):
    found = annotation_kills.run(3, tmp_path, seed=5)
    assert found["acts"] > 10
    assert (found["lost"], found["differences"]) == (0, 0)
