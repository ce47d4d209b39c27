"""The demo's world behind the shipped front, up for the whole session; and fronts to break."""

import contextlib
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from ext_authz.demo.front import Front, front
from ext_authz.demo.loopback import in_thread
from ext_authz.demo.world import World
from tests.envoy.fronts import envoy, front_before, service
from tests.envoy.recorder import OK, Recorder


@dataclass(frozen=True, slots=True, kw_only=True)
class Scene:
    """All that is up. `recorded` is a second front, the recorder in the place of its CRM."""

    world: World
    front: Front
    recorder: Recorder
    recorded: Front


@contextlib.asynccontextmanager
async def _scene(folder: Path) -> AsyncIterator[Scene]:
    first, second = folder / "front", folder / "recorded"
    first.mkdir()
    second.mkdir()
    async with World.running() as world, front(world, first) as shipped, Recorder() as recorder:
        recorded = front_before(recorder.port, world, shipped, second)
        async with service(recorded), envoy(recorded):
            yield Scene(world=world, front=shipped, recorder=recorder, recorded=recorded)


@pytest.fixture(scope="session")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    """In a thread with a loop of its own, so that every test may have its own too."""
    with in_thread(_scene(tmp_path_factory.mktemp("scene"))) as scene:
        yield scene


@pytest.fixture
def world(scene: Scene) -> World:
    return scene.world


@pytest.fixture(name="front")
def shipped_front(scene: Scene) -> Front:
    return scene.front


@pytest.fixture
def recorded_front(scene: Scene) -> Front:
    return scene.recorded


@pytest.fixture
def recorder(scene: Scene) -> Recorder:
    """The upstream of `recorded_front` and of `own_front`, having heard nothing yet."""
    scene.recorder.heard.clear()
    scene.recorder.answer = OK
    return scene.recorder


@pytest.fixture
def own_front(scene: Scene, recorder: Recorder, tmp_path: Path) -> Front:
    """A front for one test, of which nothing runs yet."""
    return front_before(recorder.port, scene.world, scene.front, tmp_path)


@pytest.fixture
def alice(world: World) -> str:
    """Alice's user token, from a sign-in that no other test knows of."""
    return world.sign_in("alice")
