"""Sets of copies, against the plain way: every pair compared."""

from hypothesis import given
from hypothesis import strategies as st

from medfathom.data.copies import exact_copies, together

digests = st.lists(st.tuples(st.sampled_from("abcd"), st.sampled_from("wxyz"), st.integers(0, 1)), max_size=9)


def merged(sets: list[set[int]]) -> list[list[int]]:
    """Sets that have a row in common, put together until none are left."""
    left = [set(each) for each in sets]
    changed = True
    while changed:
        changed = False
        for i, first in enumerate(left):
            for other in left[i + 1 :]:
                if first & other:
                    first.update(other)
                    left.remove(other)
                    changed = True
                    break
    return sorted(sorted(each) for each in left)


@given(st.lists(st.lists(st.integers(0, 12), min_size=1, max_size=4), max_size=8))
def test_sets_with_a_row_in_common_are_one(sets: list[list[int]]) -> None:
    assert together(sets) == merged([set(each) for each in sets])


@given(digests)
def test_images_of_one_file_or_of_the_same_pixels_are_copies(images: list[tuple[str, str, int]]) -> None:
    files, pixels, constant = ([image[i] for image in images] for i in range(3))
    same = [
        {i, j}
        for i in range(len(images))
        for j in range(i)
        if not constant[i] and not constant[j] and (files[i] == files[j] or pixels[i] == pixels[j])
    ]
    assert exact_copies(files, pixels, constant) == merged(same)
