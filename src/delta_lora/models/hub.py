"""A model on the hub: the revision that is asked for, or the hub's conversion of it where that has pickles alone."""

from dataclasses import replace
from fnmatch import filter as matching
from pathlib import Path
from typing import Any

from delta_lora.errors import UserError
from delta_lora.files import write_whole
from delta_lora.hub import HubFiles, cached, not_loaded
from delta_lora.models.checkpoint import FILES, PICKLES

WEIGHTS = "model*.safetensors"
# The pull requests of the hub's converter, as transformers.safetensors_conversion knows them.
BOT, TITLE = "SFconvertbot", "Adding `safetensors` variant of this model"


def hub_files(model: Any) -> HubFiles:
    """What to load of a model on the hub, at the commit of its conversion where its weights are a pickle alone.

    ``facebook/bart-large`` is such a model. The conversion is the open pull request of the hub's own bot whose parent
    is the very commit that is asked for. The hub is only asked where its cache has no weights of the model.

    Args:
        model: :class:`delta_lora.models.settings.ModelSettings`, or the ``model`` configuration group.

    Raises:
        UserError: there are pickles alone, and no conversion of them; or the hub cannot be asked.
    """
    files = asked_for(model)
    return kept(files) or converted(files) or files


def cached_folder(model: Any) -> Path | None:
    """The snapshot with a model's weights in the hub's cache, named by its commit; nothing is asked. None: none."""
    found = kept(asked_for(model))
    return None if found is None else cached(found)


def asked_for(model: Any) -> HubFiles:
    """What would be loaded of a model at its own revision."""
    return HubFiles(model.path, "model", model.revision, FILES)


def kept(files: HubFiles) -> HubFiles | None:
    """Those of the files, or of their conversion, that the cache has with weights in safetensors."""
    from huggingface_hub.errors import HFValidationError

    try:
        note = note_of(files)
    except HFValidationError:  # no name that the hub could have
        return None
    conversion = [replace(files, revision=note.read_text(encoding="utf-8").strip())] if note.is_file() else []
    with_weights = (one for one in (files, *conversion) if (folder := cached(one)) and any(folder.glob(WEIGHTS)))
    return next(with_weights, None)


def converted(files: HubFiles) -> HubFiles | None:
    """The files at the commit of the hub's conversion, which the cache then knows without asking.

    None where the revision has safetensors.

    Raises:
        UserError: there are pickles alone, and no conversion of them; or the hub cannot be asked.
    """
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HFValidationError, HTTPError  # of the HTTP library that its client has

    api = HfApi()
    try:
        asked = api.model_info(files.repository, revision=files.revision)
        names = [file.rfilename for file in asked.siblings or ()]
        pickles = matching(names, PICKLES)
        if matching(names, WEIGHTS) or not pickles:
            return None
        requests = api.get_repo_discussions(files.repository, discussion_type="pull_request", discussion_status="open")
        for reference in (one.git_reference for one in requests if (one.author, one.title) == (BOT, TITLE)):
            newest, *before = api.list_repo_commits(files.repository, revision=reference)
            if before and before[0].commit_id == asked.sha:
                write_whole(note_of(files), newest.commit_id)
                return replace(files, revision=newest.commit_id)
    except (HTTPError, HFValidationError, OSError) as error:
        raise not_loaded(files, error) from error
    raise UserError(
        f"{files.repository} at {files.revision} has its weights as {', '.join(pickles)} alone, and the hub has no "
        "conversion of them to safetensors; where you trust that file, load it with Transformers, write it again with "
        "save_pretrained(FOLDER), the tokenizer too, and give model.path=FOLDER"
    )


def note_of(files: HubFiles) -> Path:
    """Where the hub's cache keeps which commit is the conversion of a revision: among its references."""
    from huggingface_hub import constants
    from huggingface_hub.file_download import repo_folder_name

    name = repo_folder_name(repo_id=files.repository, repo_type=files.kind)
    return Path(constants.HF_HUB_CACHE) / name / "refs" / "safetensors" / files.revision
