import time, yaml, pytest
from harness.suites import document
from tests.harness.suites.test_fuzz_suites import _plans_only, here, tried_file, folder
@pytest.mark.parametrize("name", sorted(document.names()))
def test_t(here, name, tmp_path):
    path=tmp_path/"mine.yaml"; path.write_text(document.find(name).read_text())
    b=time.process_time(); out,err=tried_file(here, path, "--dry-run", "--model", here/"smollm2"); print(f"TIME {name} {time.process_time()-b:.1f} {err[-200:]}")
