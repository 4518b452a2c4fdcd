"""Dots of ImageJ, Cell Counter, cellfinder, QuPath, LabelMe and COCO, as the tools write them."""

import io
import json
import struct
import tracemalloc
import zipfile

import numpy as np
import pytest
import roifile

from cellcount_jax.io.annotations.dots import Dots, detect_format, read_dots, write_dots
from tests.io.annotations.dots_files import fails as _fails
from tests.io.annotations.dots_files import file_of as _file
from tests.io.annotations.dots_files import same as _same

# ImageJ regions as roifile writes them.


def _roi(points, **fields) -> roifile.ImagejRoi:
    region = roifile.ImagejRoi.frompoints(np.asarray(points))
    region.name = ""
    for name, value in fields.items():
        setattr(region, name, value)
    return region


def test_imagej_points(tmp_path):
    path = tmp_path / "points"
    path.write_bytes(_roi([[1.25, 2.5], [3, 4]], roitype=roifile.ROI_TYPE.POINT).tobytes())
    assert detect_format(path) == "roi"
    _same(read_dots(path), [[2.5, 1.25], [4, 3]])
    whole = _roi([[10, 20], [30, 40]], roitype=roifile.ROI_TYPE.POINT, position=3)
    path.write_bytes(whole.tobytes())
    _same(read_dots(path), [[2, 20, 10], [2, 40, 30]])  # slice 3 is plane 2


def test_imagej_areas_are_measured_from_the_corner(tmp_path):
    path = tmp_path / "RoiSet.zip"
    square = _roi([[10, 20], [11, 20], [11, 21], [10, 21]], roitype=roifile.ROI_TYPE.POLYGON)
    oval = roifile.ImagejRoi(roitype=roifile.ROI_TYPE.OVAL, left=4, right=9, top=2, bottom=5)
    point = _roi([[7, 8]], roitype=roifile.ROI_TYPE.POINT, name="ring")
    roifile.roiwrite(path, [square, oval, point], name=["0020-0010", "b", "c"])
    # The square covers the one pixel (20, 10).
    _same(read_dots(path), [[20, 10], [3, 6], [8, 7]], None, ["", "", "ring"])


def test_imagej_lines_and_foreign_files_are_refused(tmp_path):
    line = roifile.ImagejRoi(roitype=roifile.ROI_TYPE.LINE, x1=1, x2=5, name="scale")
    path = tmp_path / "line.roi"
    path.write_bytes(line.tobytes())
    assert ", region 1: 'scale' is a line" in _fails(path)
    mixed = tmp_path / "mixed.zip"
    points = _roi([[1, 2]], roitype=roifile.ROI_TYPE.POINT)
    roifile.roiwrite(mixed, [points, line], name=["a", "b"])
    assert "region 2" in _fails(mixed)
    some = _roi([[1, 2]], roitype=roifile.ROI_TYPE.POINT, position=2)
    partly = tmp_path / "partly.zip"
    roifile.roiwrite(partly, [some, points], name=["a", "b"])
    assert "no slice" in _fails(partly)


def test_files_that_the_system_adds_to_a_zip_of_regions_are_passed_over(tmp_path):
    path = tmp_path / "RoiSet.zip"
    roifile.roiwrite(path, [_roi([[1, 2]], roitype=roifile.ROI_TYPE.POINT)], name=["a"])
    with zipfile.ZipFile(path, "a") as archive:
        for name in (".DS_Store", "sub/.DS_Store", "._a.roi", "__MACOSX/._a.roi", "Thumbs.db"):
            archive.writestr(name, b"\0\5\x16\7")
    assert len(read_dots(path)) == 1
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("a.txt", b"no region")
    assert "holds 'a.txt'" in _fails(path)


def test_a_zip_never_unpacks_to_more_than_it_declares(tmp_path):
    bomb, path = io.BytesIO(), tmp_path / "bomb.zip"
    with zipfile.ZipFile(bomb, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a.roi", bytes(64 << 20))
    size, declared = struct.pack("<I", 64 << 20), struct.pack("<I", 99)
    assert bomb.getvalue().count(size) == 2  # in the entry and in the directory
    path.write_bytes(bomb.getvalue().replace(size, declared))
    tracemalloc.start()
    assert "damaged zip" in _fails(path)
    assert "damaged zip" in _fails(path, format="roi_zip")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 8 << 20
    path.write_bytes(bomb.getvalue().replace(size, struct.pack("<I", 300 << 20)))
    assert "unpacks to more than 256 MB" in _fails(path)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_LZMA) as archive:
        archive.writestr("a.roi", bytes(99))
    assert "is compressed in a way unknown to ImageJ" in _fails(path)


def test_imagej_coordinates_must_lie_in_their_bounds(tmp_path):
    path = tmp_path / "points.roi"
    path.write_bytes(_roi([[1.25, 2.5], [3, 4]], roitype=roifile.ROI_TYPE.POINT, right=2).tobytes())
    assert len(read_dots(path)) == 2  # versions of ImageJ round differently
    path.write_bytes(
        _roi([[1.25, 2.5], [300, 4]], roitype=roifile.ROI_TYPE.POINT, right=2).tobytes()
    )
    assert "outside its own bounds" in _fails(path)


def test_our_regions_are_read_by_roifile(tmp_path):
    path = tmp_path / "RoiSet.zip"
    write_dots(path, Dots(np.array([[3, 1.5, 2.25], [4, 7, 8]]), labels=["a", "b"]))
    first, second = roifile.roiread(path)
    assert (first.name, second.name) == ("a", "b")
    assert first.roitype == roifile.ROI_TYPE.POINT
    np.testing.assert_array_equal(first.coordinates(), [[2.25, 1.5]])
    assert second.counter_positions.tolist() == [5]


# Cell Counter: Fiji's layout, and a file of brainglobe-utils 0.11.2.

_FIJI = """<?xml version="1.0" encoding="UTF-8"?>\r
<CellCounter_Marker_File>\r
 <Image_Properties>\r
     <Image_Filename>slice.tif</Image_Filename>\r
 </Image_Properties>\r
 <Marker_Data>\r
     <Current_Type>2</Current_Type>\r
     <Marker_Type>\r
         <Type>1</Type>\r
         <Name>neuron</Name>\r
         <Marker>\r
             <MarkerX>1225</MarkerX>\r
             <MarkerY>650</MarkerY>\r
             <MarkerZ>{z}</MarkerZ>\r
         </Marker>\r
     </Marker_Type>\r
     <Marker_Type>\r
         <Type>2</Type>\r
         <Marker><MarkerX>7</MarkerX><MarkerY>8</MarkerY><MarkerZ>1</MarkerZ></Marker>\r
     </Marker_Type>\r
     <Marker_Type><Type>3</Type></Marker_Type>\r
 </Marker_Data>\r
</CellCounter_Marker_File>\r
"""
_CELLFINDER = """<?xml version="1.0" encoding="UTF-8"?>
<CellCounter_Marker_File>
  <Image_Properties>
    <Image_Filename>placeholder.tif</Image_Filename>
  </Image_Properties>
  <Marker_Data>
    <Current_Type>1</Current_Type>
    <Marker_Type>
      <Type>1</Type>
      <Marker><MarkerX>1</MarkerX><MarkerY>2</MarkerY><MarkerZ>3</MarkerZ></Marker>
    </Marker_Type>
    <Marker_Type>
      <Type>2</Type>
      <Marker><MarkerX>10</MarkerX><MarkerY>20</MarkerY><MarkerZ>1</MarkerZ></Marker>
      <Marker><MarkerX>100</MarkerX><MarkerY>200</MarkerY><MarkerZ>5</MarkerZ></Marker>
    </Marker_Type>
  </Marker_Data>
</CellCounter_Marker_File>
"""


def test_cell_counter(tmp_path):
    flat = _file(tmp_path, _FIJI.format(z=1), "CellCounter_slice.xml")
    assert detect_format(flat) == "cell_counter"
    _same(read_dots(flat), [[650, 1225], [8, 7]], None, ["neuron", "2"])
    deep = _file(tmp_path, _FIJI.format(z=5), "deep.xml")
    _same(read_dots(deep), [[4, 650, 1225], [0, 8, 7]])
    wrong = _file(tmp_path, _FIJI.format(z=0), "wrong.xml")
    assert ", marker 1: MarkerZ is 0" in _fails(wrong)
    assert "'x'" in _fails(_file(tmp_path, _FIJI.format(z="x"), "text.xml"))


def test_cellfinder_dialect(tmp_path):
    path = _file(tmp_path, _CELLFINDER, "cells.xml")
    _same(read_dots(path), [[1, 20, 10], [5, 200, 100]])
    _same(read_dots(path, dialect="cellfinder"), [[1, 20, 10], [5, 200, 100]])
    assert len(read_dots(path, dialect="fiji")) == 3
    other = _file(tmp_path, _CELLFINDER.replace("placeholder", "brain"), "named.xml")
    assert len(read_dots(other, dialect="cellfinder")) == 2
    write_dots(path, np.array([[0.0, 2, 3], [4, 5, 6]]), dialect="cellfinder")
    _same(read_dots(path, image_shape=(9, 9, 9)), [[0, 2, 3], [4, 5, 6]])
    assert b"<MarkerZ>0</MarkerZ>" in path.read_bytes()


def test_xml_bombs_are_refused(tmp_path):
    bomb = '<!DOCTYPE a [<!ENTITY b "c">]><CellCounter_Marker_File>&b;</CellCounter_Marker_File>'
    assert "broken XML" in _fails(_file(tmp_path, bomb, "bomb.xml"))


# QuPath: what its documentation and its own writer give.

_QUPATH = {
    "type": "FeatureCollection",
    "features": [
        {
            "type": "Feature",
            "id": "c4b5ae83-9f0a-4c3e-a0a2-8c0b4d0d9f11",
            "geometry": {"type": "MultiPoint", "coordinates": [[88.5, 612.5], [10.25, 20.75]]},
            "properties": {
                "objectType": "annotation",
                "classification": {"name": "Tumor", "color": [200, 0, 0]},
            },
        },
        {
            "type": "Feature",
            "geometry": {"type": "Point", "coordinates": [0.5, 0.5]},
            "properties": {"objectType": "annotation"},
        },
    ],
}


def test_geojson_points(tmp_path):
    path = _file(tmp_path, json.dumps(_QUPATH), "image.geojson")
    assert detect_format(path) == "geojson"
    # QuPath's origin is the corner of the first pixel, whose centre is (0.5, 0.5).
    expected = [[612, 88], [20.25, 9.75], [0, 0]]
    _same(read_dots(path), expected, None, ["Tumor", "Tumor", ""])
    _same(read_dots(path, origin="centre"), [[612.5, 88.5], [20.75, 10.25], [0.5, 0.5]])
    features = _file(tmp_path, json.dumps(_QUPATH["features"]), "list.json")
    _same(read_dots(features), expected)
    _same(read_dots(path, image_shape=(3, 700, 700)), [[0, *point] for point in expected])


def test_geojson_outlines_and_planes(tmp_path):
    square = [[10, 20], [11, 20], [11, 21], [10, 21], [10, 20]]
    hole = [[[0, 0], [8, 0], [8, 8], [0, 8], [0, 0]], [[4, 0], [4, 8], [8, 8], [8, 0], [4, 0]]]
    geometries = [
        {"type": "Polygon", "coordinates": [square], "plane": {"c": -1, "z": 3, "t": 0}},
        {"type": "Polygon", "coordinates": hole},
        {"type": "MultiPolygon", "coordinates": [[square], [hole[0]]]},
    ]
    features = [{"type": "Feature", "geometry": g, "properties": {}} for g in geometries]
    path = _file(tmp_path, json.dumps(features), "cells.geojson")
    _same(read_dots(path), [[3, 20, 10], [0, 3.5, 1.5], [0, 3.5, 3.5]])
    both = _file(tmp_path, json.dumps(features + _QUPATH["features"]), "both.geojson")
    assert "both points and outlines" in _fails(both)


def test_geojson_numbers_must_be_positions(tmp_path):
    huge = [[[1e300, 0], [1e300, 1e300], [0, 1e300]]]
    for kind, where in (("Polygon", huge), ("Point", [float("nan"), 1]), ("Point", ["1", 2])):
        feature = {"type": "Feature", "geometry": {"type": kind, "coordinates": where}}
        _fails(_file(tmp_path, json.dumps([feature]), "bad.geojson"))


@pytest.mark.parametrize("name", ["first.geojson", "first.tsv"])
def test_a_volume_whose_dots_all_lie_in_the_first_plane_stays_one(tmp_path, name):
    points = np.array([[0.0, 1.5, 2], [0, 3, 4]])
    write_dots(tmp_path / name, points)
    _same(read_dots(tmp_path / name), points)


def test_qupath_table(tmp_path):
    # As PointIO writes it: a tab ends the header, but no row.
    path = _file(tmp_path, "x\ty\tclass\tname\tcolor\t\n88.5\t612.5\tTumor\t\t-65536\n", "p.tsv")
    assert detect_format(path) == "qupath_tsv"
    _same(read_dots(path), [[612, 88]], None, ["Tumor"])
    # An older writer: another order, an empty plane for 0.
    path = _file(tmp_path, "color\tx\ty\tz\t\n-1\t1.5\t2.5\t\t\n-1\t3.5\t4.5\t2\t\n", "p.tsv")
    _same(read_dots(path), [[0, 2, 1], [2, 4, 3]])
    plain = _file(tmp_path, "x\ty\n1.5\t2.5\n", "plain.tsv")
    _same(read_dots(plain), [[2.5, 1.5]])


# LabelMe 6.3.1, through its own writer.


def _labelme(*shapes: dict) -> str:
    filled = [
        {"label": "cell", "group_id": None, "description": "", "flags": {}, "mask": None} | shape
        for shape in shapes
    ]
    size = {"imagePath": "a.png", "imageData": None, "imageHeight": 700, "imageWidth": 520}
    return json.dumps({"version": "6.3.1", "flags": {}, "shapes": filled} | size)


def test_labelme(tmp_path):
    path = _file(
        tmp_path,
        _labelme(
            {"points": [[88.25, 612.0]], "shape_type": "point"},
            {"points": [[10.0, 20.0], [14.0, 26.0]], "shape_type": "rectangle"},
            {"points": [[0, 0], [6, 0], [0, 6]], "shape_type": "polygon"},
            {"points": [[5, 6], [9, 9]], "shape_type": "circle"},
        ),
        "a.json",
    )
    assert detect_format(path) == "labelme"
    _same(read_dots(path), [[612, 88.25], [23, 12], [2, 2], [6, 5]], None, ["cell"] * 4)
    assert "700x520" in _fails(path, image_shape=(520, 696))
    line = _labelme({"points": [[0, 0], [1, 1]], "shape_type": "line"})
    assert ", shape 1: is a 'line'" in _fails(_file(tmp_path, line, "line.json"))


def _coco(**changes) -> str:
    value = {
        "images": [
            {"id": 7, "file_name": "slide/a.png", "height": 30, "width": 40},
            {"id": 8, "file_name": "slide/b.png", "height": 30, "width": 40},
        ],
        "annotations": [
            {"id": 1, "image_id": 7, "category_id": 3, "bbox": [10, 20, 1, 1], "area": 1},
            {"id": 2, "image_id": 8, "category_id": 3, "bbox": [0, 0, 5, 5], "area": 25},
            {
                "id": 3,
                "image_id": 7,
                "category_id": 3,
                "bbox": [0, 0, 9, 9],
                "keypoints": [4, 5, 2],
                "num_keypoints": 1,
            },
        ],
        "categories": [{"id": 3, "name": "cell"}],
    }
    return json.dumps(value | changes)


def test_coco(tmp_path):
    path = _file(tmp_path, _coco(), "instances.json")
    assert detect_format(path) == "coco"
    assert "holds dots of 2 images" in _fails(path)
    # pycocotools gives a mask of the one pixel (20, 10) the box [10, 20, 1, 1].
    _same(read_dots(path, image_name="a.png"), [[20, 10], [5, 4]], None, ["cell"] * 2)
    _same(read_dots(path, image_name="b.tif"), [[2, 2]])
    assert "'c.png'" in _fails(path, image_name="c.png")
    lost = [{"id": 1, "image_id": 9, "category_id": 3, "bbox": [1, 1, 1, 1]}]
    bad = _file(tmp_path, _coco(annotations=lost), "lost.json")
    assert ", annotation 1: image_id 9" in _fails(bad, image_name="a")


def test_a_napari_shapes_layer_has_a_dot_per_outline(tmp_path):
    rows = ["index,shape-type,vertex-index,axis-0,axis-1"]
    corners = ((0, 0), (0, 6), (4, 6), (4, 0))
    for i, (y, x) in enumerate([(10, 20), (30, 5)]):
        rows += [f"{i},rectangle,{j},{y + a},{x + b}" for j, (a, b) in enumerate(corners)]
    path = tmp_path / "a.csv"
    path.write_text("\n".join(rows) + "\n")
    np.testing.assert_allclose(read_dots(path).points, [[12, 23], [32, 8]])
    path.write_text("\n".join([*rows, "2,line,0,1,1", "2,line,1,5,5"]) + "\n")
    with pytest.raises(ValueError, match=r"line 10: .*holds a line, which is not the outline"):
        read_dots(path)


def _feature(kind: str | None, x: float, side: float) -> dict:
    ring = [[x, 1], [x + side, 1], [x + side, 1 + side], [x, 1 + side], [x, 1]]
    properties = {} if kind is None else {"objectType": kind}
    geometry = {"type": "Polygon", "coordinates": [ring]}
    return {"type": "Feature", "geometry": geometry, "properties": properties}


def test_cells_are_told_from_the_tissue_around_them(tmp_path, caplog):
    path = tmp_path / "a.geojson"
    features = [_feature("annotation", 0, 60), _feature("cell", 4, 2), _feature("cell", 14, 2)]
    path.write_text(json.dumps({"type": "FeatureCollection", "features": features}))
    np.testing.assert_allclose(read_dots(path).points, [[1.5, 4.5], [1.5, 14.5]])
    assert "objects that are not cells (1: 'annotation') are left out" in caplog.text
    path.write_text(json.dumps(features[:1]))  # an outline drawn by hand may be a cell
    assert len(read_dots(path)) == 1
    path.write_text(json.dumps([*features, _feature("detection", 4, 2)]))
    with pytest.raises(ValueError, match="holds cells and detections"):
        read_dots(path)


def test_a_measurement_table_gives_its_cells(tmp_path):
    path = tmp_path / "a.tsv"
    head = "Image\tObject type\tCentroid X px\tCentroid Y px"
    lines = ["a.tif\tAnnotation\t64\t64", "a.tif\tCell\t10.5\t20.5", "a.tif\tCell\t30.5\t40.5"]
    path.write_text("\n".join([head, *lines]) + "\n")
    np.testing.assert_allclose(read_dots(path).points, [[20, 10], [40, 30]])
