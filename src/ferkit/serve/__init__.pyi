from .app import create_app as create_app
from .server import WebServer as WebServer
from .settings import Limits as Limits
from .settings import Settings as Settings
from .window import LiveWindow as LiveWindow
from .window import load_pygame as load_pygame
from .window import open_display as open_display
