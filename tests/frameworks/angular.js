import "@angular/compiler";
import { Component, CUSTOM_ELEMENTS_SCHEMA, provideZonelessChangeDetection } from "@angular/core";
import { bootstrapApplication } from "@angular/platform-browser";

class App {}
const template = '<click-counter name="post-angular" single></click-counter>';
Component({ selector: "main", standalone: true, schemas: [CUSTOM_ELEMENTS_SCHEMA], template })(App);
bootstrapApplication(App, { providers: [provideZonelessChangeDetection()] });
