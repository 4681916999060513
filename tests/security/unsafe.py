"""Code that can run somebody else's code, load a pickle or open a server to the network."""

import ast
from collections.abc import Iterator

PICKLING = {"pickle", "_pickle", "cPickle", "cloudpickle", "dill", "joblib", "marshal", "shelve"}
RUNNING = {"eval", "exec", "compile", "__import__"}
YAML_LOADERS = {"load", "load_all", "full_load", "unsafe_load"}
SHELLS = {"os.system", "os.popen", "subprocess.getoutput", "subprocess.getstatusoutput"}
RESUMING = {"fit", "validate", "test", "predict"}  # of Lightning's Trainer
MODELS = ("LM.from_pretrained", "Classification.from_pretrained", "AutoModel.from_pretrained")
EVERYWHERE = {"0.0.0.0", "::", "0"}
NAMES_A_HOST = {"host", "hostname", "address", "bind", "server_name"}


def unsafe(source: str) -> list[str]:
    """Unsafe code in a file, as `line: reason`."""
    return [f"{line}: {reason}" for line, reason in sorted(_findings(ast.parse(source)))]


def _findings(tree: ast.AST) -> Iterator[tuple[int, str]]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                if alias.name.split(".")[0] in PICKLING:
                    yield node.lineno, f"imports {alias.name}"
        elif isinstance(node, ast.ImportFrom) and node.module:
            if node.module.split(".")[0] in PICKLING:
                yield node.lineno, f"imports {node.module}"
            if node.module == "torch" and any(alias.name == "load" for alias in node.names):
                yield node.lineno, "takes load out of torch, where no test sees how it is called"
        elif isinstance(node, ast.Call):
            for reason in _of_call(node):
                yield node.lineno, reason
        elif isinstance(node, ast.Constant) and node.value in ("0.0.0.0", "[::]"):
            yield node.lineno, "names every network interface"
        elif isinstance(node, ast.arguments):
            for argument, value in _defaults(node):
                if argument in NAMES_A_HOST and value in ("", None, *EVERYWHERE):
                    yield node.args[0].lineno if node.args else 0, f"{argument} is every network interface by default"


def _of_call(call: ast.Call) -> Iterator[str]:
    name = ast.unparse(call.func)
    last = name.rsplit(".", maxsplit=1)[-1]
    given = {keyword.arg: keyword.value for keyword in call.keywords}
    constant = {name: value.value for name, value in given.items() if isinstance(value, ast.Constant)}
    if name in RUNNING:
        yield f"{name} runs text as code"
    if name in SHELLS or ("shell" in given and constant.get("shell") is not False):
        yield "runs a shell"
    for keyword in ("allow_pickle", "trust_remote_code"):
        if keyword in given and constant.get(keyword) is not False:
            yield f"{keyword} is not False"
    loads_tensors = name == "torch.load" or last == "load_from_checkpoint"
    resumes = last in RESUMING and constant.get("ckpt_path", ...) is not None and "ckpt_path" in given
    if (loads_tensors or resumes or "weights_only" in given) and constant.get("weights_only") is not True:
        yield f"{name} without weights_only=True"
    if "pickle_module" in given:
        yield "chooses a pickle module"
    if name.endswith(MODELS) and constant.get("use_safetensors") is not True:
        yield f"{name} may load a pickled file: say use_safetensors=True"
    if last == "save_model" and name != "save_model":
        yield "the Trainer's save_model adds a pickled training_args.bin: use groundup.core.model.llama.save_model"
    if name.startswith(("yaml.", "pyyaml.")) and last in YAML_LOADERS:
        yield f"{name} builds objects"
    if last == "YAML" and constant.get("typ") in ("unsafe", "base"):
        yield "an unsafe YAML loader"
    if last == "Environment" and "autoescape" not in given and "jinja" in name + "jinja":
        yield "renders HTML without escaping: say autoescape"
    for keyword in NAMES_A_HOST & given.keys():
        if keyword in constant and constant[keyword] in ("", None, *EVERYWHERE):
            yield f"{keyword} is every network interface"


def _defaults(arguments: ast.arguments) -> Iterator[tuple[str, object]]:
    positional = [*arguments.posonlyargs, *arguments.args]
    pairs = [
        *zip(positional[len(positional) - len(arguments.defaults) :], arguments.defaults, strict=True),
        *zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True),
    ]
    for argument, default in pairs:
        if isinstance(default, ast.Constant):
            yield argument.arg, default.value
